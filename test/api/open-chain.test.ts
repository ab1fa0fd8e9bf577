// Opening from names, bytes and storages; reading and its cancelling; extents of a whole chain.

import { expect, test } from 'vitest';
import {
  type Chain,
  createImage,
  ImageError,
  MemoryHost,
  MemoryStorage,
  openChain,
} from '../../src/index.ts';
import { pattern } from '../support/storage-contract.ts';

const MIB = 1024 * 1024;

/** base (4 MiB) <- top (6 MiB): data, zeros and holes in both. */
async function makeHost(): Promise<MemoryHost> {
  const host = new MemoryHost();
  const base = await createImage('base.qcow2', { host, size: 4 * MIB });
  await base.write(0, pattern(2 * MIB, 1));
  await base.close();
  const backing = { backingFile: 'base.qcow2', backingFormat: 'qcow2' } as const;
  const top = await createImage('top.qcow2', { host, size: 6 * MIB, ...backing });
  await top.write(MIB, pattern(MIB / 2, 2));
  await top.zero(0, MIB / 4);
  await top.close();
  return host;
}

const bytesOf = (host: MemoryHost, name: string) => host.fileBytes(name) ?? new Uint8Array();

async function viewOf(chain: Chain): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of chain.view({ pieceBytes: 1_000_000 })) pieces.push(piece);
  return Buffer.concat(pieces);
}

test('extents of a chain cover it, and say which layer decides', async () => {
  await using chain = await openChain('top.qcow2', { host: await makeHost() });
  const found: unknown[][] = [];
  for await (const { kind, layer, offset, length } of chain.extents()) {
    found.push([kind, layer, offset / MIB, length / MIB]);
  }
  expect(found).toEqual([
    ['zero', 0, 0, 0.25],
    ['data', 1, 0.25, 0.75],
    ['data', 0, 1, 0.5],
    ['data', 1, 1.5, 0.5],
    ['zero', null, 2, 4],
  ]);
});

test('what a layer would say that is not open is not taken for zeros', async () => {
  await using top = await openChain('top.qcow2', { host: await makeHost(), backing: false });
  const invalid = { code: 'invalid' };
  await expect(top.read(3 * MIB, new Uint8Array(1))).rejects.toMatchObject(invalid);
  for (const stream of [top.extents(), top.status(), top.view()]) {
    await expect(async () => {
      for await (const _ of stream);
    }).rejects.toMatchObject(invalid);
  }
  const held = { offset: MIB, length: MIB / 2 };
  for await (const { kind } of top.extents(held)) expect(kind).toBe('data');
  for await (const { kind } of top.status(held)) expect(kind).toBe('data');
});

test('extents of one layer leave open what it does not say', async () => {
  await using chain = await openChain('top.qcow2', { host: await makeHost() });
  const kinds: string[] = [];
  for await (const { kind } of chain.layers[0].extents({ offset: MIB })) kinds.push(kind);
  expect(kinds).toEqual(['data', 'unallocated']);
  const outside = chain.layers[0].extents({ offset: 6 * MIB, length: 1 });
  await expect(outside.next()).rejects.toMatchObject({ code: 'invalid' });
});

test('views and reads agree, in pieces of any size', async () => {
  await using chain = await openChain('top.qcow2', { host: await makeHost() });
  const whole = Buffer.alloc(chain.size, 255);
  await chain.read(0, whole);
  expect((await viewOf(chain)).equals(whole)).toBe(true);
  expect(whole.subarray(MIB, MIB + 100)).toEqual(Buffer.from(pattern(100, 2)));
});

test('bytes are opened alone, are not changed, and lead to no files of this machine', async () => {
  const bytes = bytesOf(await makeHost(), 'top.qcow2');
  const before = bytes.slice();
  await expect(openChain(bytes)).rejects.toMatchObject({ code: 'not-found' });
  await using image = await openChain(bytes, { backing: false });
  const [{ backingFile, backingFormat, qcow2 }] = image.layers;
  expect({ backingFile, backingFormat }).toEqual({
    backingFile: 'base.qcow2',
    backingFormat: 'qcow2',
  });
  expect(qcow2).toMatchObject({ version: 3, refcountBits: 16, dirty: false });
  await using base = await openChain(bytesOf(await makeHost(), 'base.qcow2'), { writable: true });
  await base.write(0, new Uint8Array(10));
  expect(Buffer.compare(bytes, before)).toBe(0);
});

test('a storage is the top of a chain whose other files are in a host', async () => {
  const host = await makeHost();
  const storage = new MemoryStorage(bytesOf(host, 'top.qcow2'), { filename: 'https://x/disk' });
  await using chain = await openChain(storage, { host: await moved(host) });
  await using same = await openChain('top.qcow2', { host });
  const names = chain.layers.map(({ filename, storedName }) => [filename, storedName]);
  expect(names).toEqual([
    ['https://x/disk', 'https://x/disk'],
    ['https://x/base.qcow2', 'base.qcow2'],
  ]);
  expect((await viewOf(chain)).equals(await viewOf(same))).toBe(true);
});

test('what a host opens for reading alone is not taken for writable', async () => {
  const inner = await makeHost();
  class ReadOnly extends MemoryHost {
    override openStorage(filename: string) {
      return inner.openStorage(filename, { writable: false });
    }
    override identify(filename: string) {
      return inner.identify(filename);
    }
  }
  const host = new ReadOnly();
  const readOnly = { code: 'read-only' };
  const opened = openChain('top.qcow2', { host, writable: true });
  await expect(opened).rejects.toMatchObject(readOnly);
  const storage = new MemoryStorage(bytesOf(inner, 'base.qcow2'), { writable: false });
  await expect(openChain(storage, { writable: true })).rejects.toMatchObject(readOnly);
});

/** Base beside the name of the storage. */
async function moved(host: MemoryHost): Promise<MemoryHost> {
  const other = new MemoryHost();
  other.addFile('https:/x/base.qcow2', bytesOf(host, 'base.qcow2'));
  return other;
}

test('a signal stops a long read, a write, a view and extents with its reason', async () => {
  await using chain = await openChain('top.qcow2', { host: await makeHost(), writable: true });
  const reason = new Error('enough');
  const signal = AbortSignal.abort(reason);
  await expect(chain.read(0, new Uint8Array(10), { signal })).rejects.toBe(reason);
  await expect(chain.write(0, new Uint8Array(10), { signal })).rejects.toBe(reason);
  await expect(chain.view({ signal }).next()).rejects.toBe(reason);
  await expect(chain.extents({ signal }).next()).rejects.toBe(reason);
  await expect(openChain('top.qcow2', { signal })).rejects.toBe(reason);
  const stop = new AbortController();
  const read = chain.read(0, new Uint8Array(6 * MIB), { signal: stop.signal });
  stop.abort(reason);
  await expect(read).rejects.toBe(reason);
});

test('ranges outside of the disk are refused, an empty one inside is not', async () => {
  await using chain = await openChain('top.qcow2', { host: await makeHost(), writable: true });
  const invalid = { code: 'invalid' };
  for (const offset of [-1, 0.5, 6 * MIB, Number.NaN]) {
    await expect(chain.read(offset, new Uint8Array(1))).rejects.toMatchObject(invalid);
    await expect(chain.write(offset, new Uint8Array(1))).rejects.toMatchObject(invalid);
  }
  await chain.read(6 * MIB, new Uint8Array());
  await chain.write(6 * MIB, new Uint8Array());
  await expect(chain.view({ pieceBytes: 0 }).next()).rejects.toMatchObject(invalid);
  await expect(chain.view({ offset: 1, length: 6 * MIB }).next()).rejects.toMatchObject(invalid);
});

test('what a user holds shows nothing of the engine', async () => {
  await using chain = await openChain('top.qcow2', { host: await makeHost() });
  const inner = ['tables', 'geometry', 'storage', 'backing', 'header'];
  for (const part of [chain, ...chain.layers]) {
    expect(Object.keys(part).filter((key) => inner.includes(key))).toEqual([]);
  }
  await chain.close();
  await expect(openChain('nothing', {})).rejects.toBeInstanceOf(ImageError);
});
