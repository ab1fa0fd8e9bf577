// New images: what is refused leaves everything as it was, what is stopped leaves no half image.

import { beforeEach, expect, test } from 'vitest';
import {
  type CreateOptions,
  commit,
  createImage,
  MemoryHost,
  MemoryStorage,
  openChain,
  planCommit,
  rateLimit,
  type Storage,
} from '../../src/index.ts';

const MIB = 1024 * 1024;
let host: MemoryHost;

beforeEach(async () => {
  host = new MemoryHost();
  await (await createImage('base', { host, size: 8 * MIB })).close();
  const backing = { backingFile: 'base', backingFormat: 'qcow2' } as const;
  await using top = await createImage('top', { host, size: 8 * MIB, ...backing });
  await top.write(0, new Uint8Array(2 * MIB).fill(1));
});

test('a file of the chain that it would stand on is not replaced', async () => {
  const before = host.fileBytes('base');
  for (const [filename, backingFile] of [
    ['base', 'top'],
    ['./top', 'top'],
    ['file:top', 'base/../top'],
  ] as const) {
    const options = { host, size: MIB, backingFile, backingFormat: 'qcow2' } as const;
    await expect(createImage(filename, options)).rejects.toMatchObject({ code: 'invalid' });
  }
  expect(host.fileBytes('base')).toEqual(before);
});

test('a name with the protocol file: is that file; others are refused', async () => {
  await (await createImage('file:new', { host, size: MIB })).close();
  expect(host.fileBytes('new')).toBeDefined();
  const other = createImage('nbd:new', { host, size: MIB });
  await expect(other).rejects.toMatchObject({ code: 'unsupported' });
});

test('options out of their range are refused before a file is replaced', async () => {
  const before = host.fileBytes('top');
  const wrong: readonly Partial<CreateOptions>[] = [
    { size: 1 },
    { size: -512 },
    { clusterSize: 1000 },
    { refcountBits: 3 },
    { version: 2, compressionType: 'zstd' },
    { version: 4 as 3 },
    { compressionType: 'none' as 'zlib' },
    { preallocation: 'some' as 'full' },
    { backingFormat: 'vmdk' as 'raw' },
    { backingFile: 'base', preallocation: 'full' },
  ];
  for (const options of wrong) {
    const created = createImage('top', { host, size: MIB, ...options });
    await expect(created).rejects.toMatchObject({ code: 'invalid' });
  }
  expect(host.fileBytes('top')).toEqual(before);
});

test('so are those of opening, of commits and of rates', async () => {
  const invalid = { code: 'invalid' };
  for (const cacheBytes of [-1, 0.5, Number.NaN]) {
    await expect(openChain('top', { host, cacheBytes })).rejects.toMatchObject(invalid);
  }
  await using chain = await openChain('top', { host, cacheBytes: 0 });
  await chain.read(0, new Uint8Array(10));
  const cache = 'some' as 'none';
  await expect(openChain('top', { host, cache })).rejects.toMatchObject(invalid);
  await expect(commit('top', { host, cache })).rejects.toMatchObject(invalid);
  for (const rate of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => rateLimit(rate)).toThrow(expect.objectContaining(invalid));
    expect(() => rateLimit(1).setRate(rate)).toThrow(expect.objectContaining(invalid));
    await expect(commit('top', { host, rateLimit: rate })).rejects.toMatchObject(invalid);
  }
});

/** Tells of each write. */
class Watched extends MemoryHost {
  onWrite: () => void = () => undefined;

  override async createStorage(filename: string): Promise<Storage> {
    const storage = await super.createStorage(filename);
    const write = storage.write.bind(storage);
    storage.write = async (...args) => {
      this.onWrite();
      await write(...args);
    };
    return storage;
  }
}

test('a signal stops filling it, and no half image is left', async () => {
  const watched = new Watched();
  const stop = new AbortController();
  const reason = new Error('enough');
  let writes = 0;
  watched.onWrite = () => {
    writes++;
    if (writes === 10) stop.abort(reason);
  };
  const options = { host: watched, size: 64 * MIB, preallocation: 'full' } as const;
  const created = createImage('new', { ...options, signal: stop.signal });
  await expect(created).rejects.toBe(reason);
  expect([writes, watched.fileBytes('new')]).toEqual([10, undefined]);
  const late = createImage('new', { ...options, signal: stop.signal });
  await expect(late).rejects.toBe(reason);
  expect(watched.fileBytes('new')).toBeUndefined();
});

test('a signal stops zeroing between its pieces', async () => {
  await using disk = await createImage('large', { host, size: 256 * MIB });
  await disk.write(200 * MIB, new Uint8Array(512).fill(1));
  const reason = new Error('enough');
  const stopped = disk.zero(0, 256 * MIB, { signal: AbortSignal.abort(reason) });
  await expect(stopped).rejects.toBe(reason);
  await disk.zero(100, 256 * MIB - 100, { signal: new AbortController().signal });
  const sector = new Uint8Array(512).fill(9);
  await disk.read(200 * MIB, sector);
  expect(sector.every((byte) => byte === 0)).toBe(true);
  await disk.zero(256 * MIB, 0);
  for (const [offset, length] of [
    [0, 256 * MIB + 1],
    [-1, 1],
    [0, undefined as unknown as number],
  ] as const) {
    await expect(disk.zero(offset, length)).rejects.toMatchObject({ code: 'invalid' });
  }
});

test('a signal stops planning and what comes before a commit', async () => {
  const reason = new Error('enough');
  const signal = AbortSignal.abort(reason);
  await expect(planCommit('top', { host, signal })).rejects.toBe(reason);
  await expect(commit('top', { host, signal })).rejects.toBe(reason);
});

test('opening a chain stops between two layers', async () => {
  const stop = new AbortController();
  const reason = new Error('enough');
  const opened: string[] = [];
  class Slow extends MemoryHost {
    override async openStorage(filename: string): Promise<Storage> {
      opened.push(filename);
      stop.abort(reason);
      return new MemoryStorage(host.fileBytes(filename), { filename });
    }
    override identify(filename: string) {
      return host.identify(filename);
    }
  }
  const chain = openChain('top', { host: new Slow(), signal: stop.signal });
  await expect(chain).rejects.toBe(reason);
  expect(opened).toEqual(['top']);
});

test('refusals name options as a program does', async () => {
  await expect(commit('top', { host, delete: true })).rejects.toThrow(
    /^delete needs top or relink/,
  );
  await expect(commit('top', { host, relink: true })).rejects.toThrow(/^relink needs a base$/);
  const backing = { backingFile: 'base', backingFormat: 'qcow2' } as const;
  await (await createImage('other', { host, size: 8 * MIB, ...backing })).close();
  await expect(commit('top', { host })).rejects.toMatchObject({
    code: 'siblings',
    hint: expect.stringMatching(/use rebaseSiblings to .* use force to/),
  });
  const { refusals } = await planCommit('top', { host });
  expect(refusals.join()).toMatch(/use force to/);
});
