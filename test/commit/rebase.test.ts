// Rebases one by one: what is refused, what is not read, and what is left when something fails.

import { describe, expect, test } from 'vitest';
import { asQcow2 } from '../../src/chain/chain.ts';
import { openChain } from '../../src/chain/open.ts';
import { rebase } from '../../src/commit/rebase.ts';
import type { RebaseOptions } from '../../src/commit/rebase-options.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { digestsOf } from '../support/memory-chains.ts';
import { expectBytes, findingsIn, viewThrough } from '../support/memory-images.ts';
import { addImage, DISK } from '../support/named-images.ts';
import { pattern } from '../support/storage-contract.ts';
import { WatchedHost } from '../support/watched-host.ts';

const ONTO = { backing: 'other', backingFormat: 'qcow2' } as const;

/** `/top` over `/mid` over `/base`, and `/other`, all of them different. */
async function four<T extends MemoryHost>(host: T, version: 2 | 3 = 3): Promise<T> {
  const over = (backingFile: string) => ({ backingFile, backingFormat: 'qcow2' });
  await addImage(host, '/base', { filled: 1, clusterSize: 1024 });
  await addImage(host, '/mid', { ...over('base'), size: DISK / 2 });
  await addImage(host, '/top', {
    ...over('mid'),
    size: DISK + 5 * 512,
    clusterSize: 1024,
    version,
  });
  await addImage(host, '/other', { clusterSize: 512, size: 2 * DISK });
  for (const [name, at] of [
    ['/mid', 700],
    ['/top', 9000],
    ['/other', 30_000],
  ] as const) {
    await using chain = await openChain(name, { host, writable: true });
    await chain.write(at, pattern(5000, at));
    await chain.top.zero(at + 3000, 1500);
    if (name === '/other') await chain.write(DISK - 700, pattern(DISK, 77));
  }
  return host;
}

async function backingOf(host: MemoryHost, name: string): Promise<string | undefined> {
  await using chain = await openChain(name, { host });
  return chain.layers[1]?.storedName;
}

describe.each<[string, 2 | 3, Omit<RebaseOptions, 'host'>]>([
  ['onto another image', 3, ONTO],
  ['onto another image, version 2', 2, ONTO],
  ['onto a lower layer', 3, { backing: 'base', backingFormat: 'qcow2' }],
  ['onto nothing', 3, { backing: '' }],
])('%s', (_what, version, request) => {
  test('each change fails in turn: the view stays, and another run completes it', async () => {
    for (let n = 0; ; n++) {
      const host = await four(new WatchedHost(), version);
      const view = await viewThrough(host, '/top');
      let count = 0;
      host.watch = () => {
        if (count++ === n) throw new ImageError('io', 'broken', { errno: 'EIO' });
      };
      const outcome = await rebase('/top', { host, ...request }).catch((error: unknown) => error);
      const reached = count > n;
      host.watch = () => undefined;
      if (reached) expect(outcome).toMatchObject({ name: 'ImageError', errno: 'EIO' });
      expectBytes(await viewThrough(host, '/top'), view, `the view, change ${n} failed`);
      const storage = await host.openStorage('/top', { writable: false });
      expect((await findingsIn(storage)).corruptions, `change ${n}`).toBe(0);
      await rebase('/top', { host, ...request });
      expectBytes(await viewThrough(host, '/top'), view, `another run, change ${n} failed`);
      expect((await backingOf(host, '/top')) ?? '').toBe(request.backing);
      if (!reached) break;
    }
  });
});

describe('refused, nothing written', () => {
  async function expectRefused(
    host: MemoryHost,
    request: Omit<RebaseOptions, 'host'>,
    expected: object,
  ): Promise<void> {
    const names = ['/top', '/mid', '/base', '/other'];
    const before = digestsOf(host, names);
    await expect(rebase('/top', { host, ...request })).rejects.toMatchObject(expected);
    expect(digestsOf(host, names)).toEqual(before);
  }

  test('too little space, with both numbers; what does not differ needs none', async () => {
    class FullHost extends MemoryHost {
      override async freeSpace(): Promise<undefined> {
        return 4096 as unknown as undefined;
      }
    }
    const host = await four(new FullHost());
    const message = expect.stringMatching(
      /'\/top' needs \d+ bytes more in '\/', and 4096 are free/,
    );
    await expectRefused(host, ONTO, { code: 'no-space', errno: 'ENOSPC', message });
    await addImage(host, '/twin', { filled: 1, clusterSize: 512 });
    const twin = { backing: 'base', backingFormat: 'qcow2', force: true } as const;
    await rebase('/top', { host, ...twin });
    const result = await rebase('/top', { host, backing: 'twin', backingFormat: 'qcow2' });
    expect(result.comparedBytes).toBeGreaterThan(4096);
    expect(result.copiedBytes).toBe(0);
    await rebase('/top', { host, ...ONTO, force: true });
  });

  test.each<[string, Omit<RebaseOptions, 'host'>, object]>([
    [
      'a format that there is none of',
      { backing: 'other', backingFormat: 'qcow3' },
      { message: "Invalid format name: 'qcow3'" },
    ],
    [
      'no format',
      { backing: 'other' },
      { message: "Could not change the backing file to 'other': backing format must be specified" },
    ],
    [
      'a name that is too long',
      { backing: 'x'.repeat(1024), backingFormat: 'qcow2', unsafe: true, force: true },
      { message: expect.stringMatching(/: Invalid argument$/) },
    ],
    [
      'another format than the content has',
      { ...ONTO, backingFormat: 'raw', unsafe: true },
      { message: expect.stringMatching(/its content is a qcow2 image/) },
    ],
    [
      "a relative name after 'file:'",
      { ...ONTO, backing: 'file:other', unsafe: true },
      { message: expect.stringMatching(/working directory/) },
    ],
  ])('%s', async (_what, request, expected) => {
    await expectRefused(await four(new MemoryHost()), request, { code: 'invalid', ...expected });
  });

  test('internal snapshots, which would show something else', async () => {
    const host = await four(new MemoryHost());
    await using chain = await openChain('/top', { host, writable: true });
    await createSnapshot(asQcow2(chain.top), { name: 's', seconds: 0, nanoseconds: 0 });
    await chain.close();
    await expectRefused(host, ONTO, { message: expect.stringMatching(/has internal snapshots/) });
    await rebase('/top', { host, ...ONTO, skipAdvice: true });
  });
});

test('a layer of the same chain, named with another format, is compared as that', async () => {
  const host = await four(new MemoryHost());
  const view = await viewThrough(host, '/top');
  await rebase('/top', { host, backing: 'base', backingFormat: 'raw' });
  expectBytes(await viewThrough(host, '/top'), view, 'the view');
});

test('what both chains have from one layer is not read', async () => {
  const host = new MemoryHost();
  await addImage(host, '/base', { filled: 1 });
  const over = { backingFile: 'base', backingFormat: 'qcow2' };
  for (const name of ['/one', '/two', '/top']) {
    await addImage(host, name, { ...over, ...(name === '/top' && { backingFile: 'one' }) });
  }
  await using two = await openChain('/two', { host, writable: true });
  await two.write(8192, pattern(100, 2));
  await two.close();
  const result = await rebase('/top', { host, backing: 'two', backingFormat: 'qcow2' });
  expect(result).toMatchObject({ comparedBytes: 4096, copiedBytes: 4096 });
});

test('zeros stay zeros, and take no clusters of data', async () => {
  const host = await four(new MemoryHost());
  await addImage(host, '/full', { filled: 5, size: 2 * DISK });
  await addImage(host, '/alone', {});
  const result = await rebase('/alone', { host, backing: 'full', backingFormat: 'qcow2' });
  expect(result).toMatchObject({ copiedBytes: 0, zeroedBytes: DISK });
  await using chain = await openChain('/alone', { host });
  expect(await chain.extents(0, DISK)).toMatchObject([{ kind: 'zero', length: DISK }]);
});
