// A chain as a whole: finding a layer by name, the view, closing.

import { describe, expect, test } from 'vitest';
import { asQcow2 } from '../../src/chain/chain.ts';
import { openChain } from '../../src/chain/open.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { expectBytes } from '../support/memory-images.ts';
import { addChain, addImage, DISK } from '../support/named-images.ts';
import { pattern } from '../support/storage-contract.ts';

async function twoDirectories(): Promise<MemoryHost> {
  const host = new MemoryHost();
  await addImage(host, '/a/base', { filled: 1 });
  await addImage(host, '/b/mid', { backingFile: '../a/base', backingFormat: 'qcow2' });
  await addImage(host, '/b/top', { backingFile: 'mid', backingFormat: 'qcow2' });
  return host;
}

describe('find', () => {
  test.each([
    ['mid', 1],
    ['./mid', 1],
    ['../b/mid', 1],
    ['/b/mid', 1],
    ['../a/base', 2],
    ['/a/base', 2],
    ['/b/../a/base', 2],
    ['base', undefined],
    ['top', undefined],
    ['/b/top', undefined],
    ['nbd:mid', undefined],
  ])('takes %j for layer %j', async (name, index) => {
    await using chain = await openChain('/b/top', { host: await twoDirectories() });
    expect(await chain.find(name)).toBe(index);
  });

  test('compares names with a protocol as they are stored', async () => {
    const host = new MemoryHost();
    await addImage(host, '/base');
    await addImage(host, '/top', { backingFile: 'file:/base', backingFormat: 'qcow2' });
    await using chain = await openChain('/top', { host });
    expect(await chain.find('file:/base')).toBe(1);
    expect(await chain.find('/base')).toBeUndefined();
    expect(await chain.find('file:base')).toBeUndefined();
  });
});

describe('findByPath', () => {
  test.each([
    ['/b/top', 0],
    ['b/mid', 1],
    ['file:/a/base', 2],
    ['mid', undefined],
    ['/nope', undefined],
  ])('takes %j, seen from the working directory, for layer %j', async (name, index) => {
    await using chain = await openChain('/b/top', { host: await twoDirectories() });
    expect(await chain.findByPath(name)).toBe(index);
  });
});

test('reads go through to the base, writes stay in the top', async () => {
  const host = await twoDirectories();
  const before = host.fileBytes('/a/base');
  const expected = pattern(DISK, 1);
  {
    await using chain = await openChain('/b/top', { host, writable: true });
    await chain.write(5000, pattern(100, 2));
    expected.set(pattern(100, 2), 5000);
    await chain.flush();
  }
  await using chain = await openChain('/b/top', { host });
  const pieces: Uint8Array[] = [];
  for await (const piece of chain.view(10_000)) pieces.push(piece);
  expect(pieces.map(({ length }) => length)).toEqual([...new Array(6).fill(10_000), 5536]);
  expectBytes(Buffer.concat(pieces), expected);
  expect(await chain.extents(0, 4096)).toEqual([{ kind: 'unallocated', offset: 0, length: 4096 }]);
  expect(host.fileBytes('/a/base')).toEqual(before);
});

test('a layer that is not there is a mistake of the caller', async () => {
  const host = await twoDirectories();
  await using chain = await openChain('/b/top', { host });
  expect(() => chain.at(3)).toThrow(expect.objectContaining({ code: 'invalid' }));
});

test('only a qcow2 layer is a qcow2 image', async () => {
  const host = new MemoryHost();
  host.addFile('/raw', new Uint8Array(512));
  await using raw = await openChain('/raw', { host });
  expect(() => asQcow2(raw.top)).toThrow(expect.objectContaining({ code: 'invalid' }));
});

test('closing closes all layers, and tells the first error at the end', async () => {
  const host = new MemoryHost();
  await addChain(host, '/base', '/mid', '/top');
  const chain = await openChain('/top', { host });
  const closed: string[] = [];
  for (const { layer } of chain.layers) {
    layer.close = async () => {
      closed.push(layer.filename);
      throw new Error(layer.filename);
    };
  }
  await expect(chain.close()).rejects.toThrow('/top');
  expect(closed).toEqual(['/top', '/mid', '/base']);
});
