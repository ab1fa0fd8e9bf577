// Commits over a disk that fails by the rules of blkdebug, for each event: an error with its errno
// or none at all, the view through the top as before, no corruption, and another run completes it.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import { ImageError } from '../../src/errors.ts';
import { BlkdebugStorage, type DebugRule, type InjectError } from '../../src/io/blkdebug.ts';
import { STORAGE_EVENTS, type StorageEvent } from '../../src/io/events.ts';
import type { OpenStorageOptions } from '../../src/io/host.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage } from '../../src/io/storage.ts';
import { expectBytes, findingsIn, viewThrough } from '../support/memory-images.ts';
import { addImage } from '../support/named-images.ts';
import { pattern } from '../support/storage-contract.ts';

class FaultyHost extends MemoryHost {
  /** By file name. */
  rules: Readonly<Record<string, readonly DebugRule[]>> = {};
  readonly heard = new Set<StorageEvent>();

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    const storage = await super.openStorage(filename, options);
    const rules = this.rules[filename];
    if (rules === undefined) return storage;
    const faulty = new BlkdebugStorage(storage, rules);
    const tell = faulty.event.bind(faulty);
    faulty.event = (name) => {
      this.heard.add(name);
      tell(name);
    };
    return faulty;
  }
}

const SIZE = 300 * 512;

/** Tables small enough that all of them have to grow. */
async function twoLayers(): Promise<FaultyHost> {
  const host = new FaultyHost();
  const shape = { clusterSize: 512, version: 3 } as const;
  await addImage(host, '/base', { ...shape, size: SIZE / 2, filled: 1 });
  const below = { backingFile: 'base', backingFormat: 'qcow2' };
  await addImage(host, '/top', { ...shape, ...below, size: SIZE });
  await using chain = await openChain('/top', { host, writable: true });
  await chain.write(700, pattern(60_000, 2));
  await chain.write(SIZE - 70_000, pattern(69_000, 3));
  await chain.top.zero(9000, 4000);
  return host;
}

const rule = (event: StorageEvent, errno: string, once: boolean): InjectError => ({
  kind: 'inject-error',
  event,
  state: 0,
  errno,
  requests: null,
  offset: null,
  once,
});

const forms = ['EIO', 'ENOSPC'].flatMap((errno) => [true, false].map((once) => ({ errno, once })));

test.each(forms)('each event fails with $errno, once: $once', async ({ errno, once }) => {
  const failed = new Set<StorageEvent>();
  for (const event of STORAGE_EVENTS) {
    for (const name of ['/base', '/top']) {
      const host = await twoLayers();
      const view = await viewThrough(host, '/top');
      host.rules = { [name]: [rule(event, errno, once)] };
      const outcome = await commit('/top', { host }).catch((error: unknown) => error);
      host.rules = {};
      if (outcome instanceof Error) {
        expect(outcome).toBeInstanceOf(ImageError);
        expect(outcome).toMatchObject({ errno });
        failed.add(event);
      }
      for (const image of ['/base', '/top']) {
        const storage = await host.openStorage(image, { writable: false });
        expect((await findingsIn(storage)).corruptions, `${event} in ${image}`).toBe(0);
      }
      expectBytes(await viewThrough(host, '/top'), view);
      await commit('/top', { host });
      expectBytes(await viewThrough(host, '/base'), view);
    }
  }
  expect(failed).toContain('write_aio');
  expect(failed).toContain('l2_update');
  expect(failed).toContain('read_aio');
});

test('a commit tells of everything that it does to base', async () => {
  const host = await twoLayers();
  host.rules = { '/base': [], '/top': [] };
  await commit('/top', { host });
  const expected: readonly StorageEvent[] = [
    'reftable_load',
    'refblock_load',
    'l2_load',
    'read_aio',
    'cluster_alloc',
    'write_aio',
    'l2_alloc_write',
    'l2_update',
    'refblock_update_part',
    'l1_update',
    'flush_to_os',
    'flush_to_disk',
    'empty_image_prepare',
  ];
  for (const event of expected) expect(host.heard, event).toContain(event);
});
