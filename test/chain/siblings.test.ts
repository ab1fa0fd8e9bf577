// Who else stands on a file.

import { expect, test } from 'vitest';
import { findSiblings, readNeighbours } from '../../src/chain/siblings.ts';
import { ImageError } from '../../src/errors.ts';
import type { OpenStorageOptions } from '../../src/io/host.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage } from '../../src/io/storage.ts';
import { addChain, addImage } from '../support/named-images.ts';

async function find(
  host: MemoryHost,
  changing: readonly string[],
  stable: readonly string[] = [],
  directories: readonly string[] = ['/d/'],
): Promise<readonly string[]> {
  const neighbours = await readNeighbours(host, directories);
  const found = await findSiblings(neighbours, new Set(changing), new Set(stable));
  return found.map(({ filename }) => filename);
}

async function tree(): Promise<MemoryHost> {
  const host = new MemoryHost();
  await addChain(host, '/d/base', '/d/mid', '/d/top', '/d/active');
  return host;
}

test('what stands on a file that changes, directly or not, by name', async () => {
  const host = await tree();
  await addImage(host, '/d/b', { backingFile: 'base' });
  await addImage(host, '/d/a', { backingFile: '/d/b' });
  expect(await find(host, ['/d/base'], ['/d/mid', '/d/top', '/d/active'])).toEqual([
    '/d/a',
    '/d/b',
  ]);
});

test('what stands on a layer whose view stays is none', async () => {
  const host = await tree();
  await addImage(host, '/d/other', { backingFile: 'top' });
  expect(await find(host, ['/d/base', '/d/mid'], ['/d/top'])).toEqual([]);
});

test('what changes itself is none, what stands on it is one', async () => {
  const host = await tree();
  expect(await find(host, ['/d/base', '/d/mid'])).toEqual(['/d/active', '/d/top']);
});

test('images of another chain, raw files and rubbish are none', async () => {
  const host = await tree();
  await addChain(host, '/d/x', '/d/y');
  host.addFile('/d/raw', new Uint8Array(5000));
  host.addFile('/d/empty', new Uint8Array());
  host.addFile('/d/broken', host.fileBytes('/d/top')?.subarray(0, 40) ?? new Uint8Array());
  await addImage(host, '/d/remote', { backingFile: 'nbd:base' });
  await addImage(host, '/d/orphan', { backingFile: 'gone' });
  expect(await find(host, ['/d/base'], ['/d/mid'])).toEqual([]);
});

test('a chain is followed into directories that nobody looks in', async () => {
  const host = await tree();
  await addImage(host, '/far/link', { backingFile: '../d/base' });
  await addImage(host, '/d/over', { backingFile: '../far/link' });
  expect(await find(host, ['/d/base'], ['/d/mid'])).toContain('/d/over');
});

test('each directory is looked in once, however it is named', async () => {
  const host = await tree();
  await addImage(host, '/d/other', { backingFile: 'base' });
  const found = await find(host, ['/d/base'], ['/d/mid'], ['/d/', '/d/', '/d/../d/']);
  expect(found).toEqual(['/d/other']);
});

test('files in the working directory are named without it', async () => {
  const host = new MemoryHost();
  await addChain(host, 'base', 'top');
  expect(await find(host, ['/base'], [], ['./'])).toEqual(['top']);
});

test('a loop of strangers comes to an end', async () => {
  const host = await tree();
  await addImage(host, '/d/l1', { backingFile: 'l2' });
  await addImage(host, '/d/l2', { backingFile: 'l1' });
  expect(await find(host, ['/d/base'], ['/d/mid'])).toEqual([]);
});

test('a directory that can not be read is told', async () => {
  const host = await tree();
  const missing = find(host, ['/d/base'], [], ['/nope/']);
  await expect(missing).rejects.toMatchObject({ code: 'not-found' });
});

test('those that stand on a changing file themselves are told from those above them', async () => {
  const host = await tree();
  await addImage(host, '/far/link', { backingFile: '../d/base' });
  await addImage(host, '/d/over', { backingFile: '../far/link' });
  const neighbours = await readNeighbours(host, ['/d/']);
  const found = await findSiblings(neighbours, new Set(['/d/base']), new Set(['/d/mid']));
  expect(found.map(({ filename, direct }) => [filename, direct])).toEqual([
    ['/d/../far/link', true],
    ['/d/over', false],
  ]);
});

/** Counts what is asked of it, and refuses to open some files. */
class CountingHost extends MemoryHost {
  readonly refused = new Set<string>();
  opens = 0;
  reads = 0;
  bytes = 0;

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    if (this.refused.has(filename)) {
      throw new ImageError('io', `'${filename}': Permission denied`, { errno: 'EACCES' });
    }
    this.opens++;
    const storage = await super.openStorage(filename, options);
    const read = storage.read.bind(storage);
    storage.read = (offset, target) => {
      this.reads++;
      this.bytes += target.length;
      return read(offset, target);
    };
    return storage;
  }
}

test('ten thousand files are opened once each, and read no further than the header', async () => {
  const host = new CountingHost();
  await addChain(host, '/d/base', '/d/top');
  const overlay = host.fileBytes('/d/top') ?? new Uint8Array();
  for (let i = 0; i < 1000; i++) host.addFile(`/d/overlay${i}`, overlay);
  for (let i = 0; i < 9000; i++) host.addFile(`/d/other${i}`, new Uint8Array(1000));
  host.opens = host.reads = host.bytes = 0;
  expect(await find(host, ['/d/base'], ['/d/top'])).toHaveLength(1000);
  expect(host.opens).toBe(10_002);
  expect(host.reads).toBe(10_002);
  expect(host.bytes).toBe(10_002 * 512);
});

test('what can not be read is told, and so is what may be an image of another version', async () => {
  const host = new CountingHost();
  await addChain(host, '/d/base', '/d/top');
  await addImage(host, '/d/other', { backingFile: 'base' });
  host.addFile('/d/future', Uint8Array.of(0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 9));
  host.addFile('/d/secret', new Uint8Array(1000));
  host.refused.add('/d/secret');
  const neighbours = await readNeighbours(host, ['/d/', '/gone/'], new Set());
  expect(neighbours.unread).toEqual(['/d/future', '/d/secret', '/gone/']);
  const found = await findSiblings(neighbours, new Set(['/d/base']), new Set(['/d/top']));
  expect(found.map(({ filename }) => filename)).toEqual(['/d/other']);
});
