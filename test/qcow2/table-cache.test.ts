// Tables in memory: bounded, dirty ones stay until they are durable.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { type Table, TableCache } from '../../src/qcow2/table-cache.ts';
import { pattern } from '../support/storage-contract.ts';

const SIZE = 512;
const TABLES = 40;

/** Counts what is read. */
class CountingStorage extends MemoryStorage {
  reads: number[] = [];

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.reads.push(offset / SIZE);
    await super.read(offset, target);
  }
}

function newCache(bound = 8 * SIZE) {
  const storage = new CountingStorage(pattern(TABLES * SIZE, 1));
  return { storage, cache: new TableCache(storage, SIZE, bound) };
}

const l2 = (cache: TableCache, index: number) => cache.load(index * SIZE, 'l2');
const all = () => true;

async function change(cache: TableCache, index: number, position: number): Promise<Table> {
  const table = await l2(cache, index);
  table.bytes[position] = 0xab;
  cache.touch(table, position, 1);
  return table;
}

test('a table is read once and then at hand at once', async () => {
  const { storage, cache } = newCache();
  const table = await l2(cache, 3);
  expect(table.bytes).toEqual(pattern(TABLES * SIZE, 1).subarray(3 * SIZE, 4 * SIZE));
  expect(l2(cache, 3)).toBe(table);
  expect(storage.reads).toEqual([3]);
});

test('two who ask for the same table at once get one table', async () => {
  const { storage, cache } = newCache();
  const [a, b] = await Promise.all([l2(cache, 3), l2(cache, 3)]);
  expect(a).toBe(b);
  expect(storage.reads).toEqual([3]);
});

test('a read that failed is tried again', async () => {
  const { storage, cache } = newCache();
  const read = storage.read;
  storage.read = async () => {
    throw new Error('no');
  };
  await expect(l2(cache, 3)).rejects.toThrow('no');
  storage.read = read;
  expect((await l2(cache, 3)).offset).toBe(3 * SIZE);
});

test('the least recently used ones leave first', async () => {
  const { storage, cache } = newCache();
  for (let i = 0; i < 8; i++) await l2(cache, i);
  await l2(cache, 0);
  await l2(cache, 8);
  storage.reads = [];
  for (const i of [0, 2, 3, 4, 5, 6, 7, 8]) await l2(cache, i);
  expect(storage.reads).toEqual([]);
  await l2(cache, 1);
  expect(storage.reads).toEqual([1]);
});

test('eight tables are kept however small the bound is', async () => {
  const { storage, cache } = newCache(0);
  for (let round = 0; round < 2; round++) for (let i = 0; i < 8; i++) await l2(cache, i);
  expect(storage.reads).toHaveLength(8);
});

test('dirty tables stay past the bound, and are found changed', async () => {
  const { storage, cache } = newCache();
  for (let i = 0; i < 20; i++) await change(cache, i, i);
  for (let i = 20; i < TABLES; i++) await l2(cache, i);
  storage.reads = [];
  for (let i = 0; i < 20; i++) expect((await l2(cache, i)).bytes[i]).toBe(0xab);
  expect(storage.reads).toEqual([]);
  expect(cache.dirtyBytes).toBe(20 * SIZE);
  expect(cache.dirtyBytes).toBeGreaterThan(cache.dirtyBound);
});

test('only the part that changed is written, in file order', async () => {
  const { storage, cache } = newCache();
  await change(cache, 5, 100);
  await change(cache, 5, 90);
  await change(cache, 2, 511);
  const writes: [number, number][] = [];
  storage.write = async (offset, source) => void writes.push([offset, source.length]);
  expect(await cache.write(all)).toBe(true);
  expect(writes).toEqual([
    [2 * SIZE + 511, 1],
    [5 * SIZE + 90, 11],
  ]);
});

test('a written table stays dirty until it is settled', async () => {
  const { cache } = newCache();
  await change(cache, 5, 0);
  await cache.write(all);
  expect(cache.dirtyBytes).toBe(SIZE);
  cache.settle(all);
  expect(cache.dirtyBytes).toBe(0);
  expect(await cache.write(all)).toBe(false);
  // A new change is a change from its first byte on.
  const table = await change(cache, 5, 7);
  expect([table.dirtyFrom, table.dirtyTo]).toEqual([7, 8]);
});

test('the tables that are picked are written and settled, the others wait', async () => {
  const { storage, cache } = newCache();
  await change(cache, 1, 0);
  const block = await cache.load(2 * SIZE, 'refcount-block');
  block.bytes[0] = 0xcd;
  cache.touch(block, 0, 1);
  const isBlock = (table: Table) => table.kind === 'refcount-block';
  await cache.write(isBlock);
  cache.settle(isBlock);
  expect(cache.dirtyBytes).toBe(SIZE);
  expect(storage.bytes()[2 * SIZE]).toBe(0xcd);
  expect(storage.bytes()[SIZE]).not.toBe(0xab);
});

test('what was settled may leave, and comes back as it was written', async () => {
  const { cache } = newCache();
  for (let i = 0; i < 20; i++) await change(cache, i, 9);
  await cache.write(all);
  cache.settle(all);
  for (let i = 20; i < TABLES; i++) await l2(cache, i);
  for (let i = 0; i < 20; i++) expect((await l2(cache, i)).bytes[9]).toBe(0xab);
});

test('a new table is fresh and dirty as a whole; once settled it is neither', () => {
  const { cache } = newCache();
  const zeros = cache.create(50 * SIZE, 'refcount-block');
  expect(zeros).toMatchObject({ fresh: true, dirtyFrom: 0, dirtyTo: SIZE });
  expect(zeros.bytes.every((byte) => byte === 0)).toBe(true);
  cache.settle(all);
  expect(zeros).toMatchObject({ fresh: false, dirtyFrom: 0, dirtyTo: 0 });
});

test('a copy of a table is a copy', () => {
  const { cache } = newCache();
  const content = new Uint8Array(SIZE).fill(1);
  const table = cache.create(50 * SIZE, 'l2', content);
  content.fill(2);
  expect(table.bytes.every((byte) => byte === 1)).toBe(true);
});

test('a forgotten table is not written, and is read again', async () => {
  const { storage, cache } = newCache();
  await change(cache, 5, 0);
  cache.forget(5 * SIZE);
  cache.forget(6 * SIZE);
  expect(cache.dirtyBytes).toBe(0);
  expect(await cache.write(all)).toBe(false);
  expect((await l2(cache, 5)).bytes[0]).not.toBe(0xab);
  expect(storage.reads).toEqual([5, 5]);
});

test('a changed table that had left the cache comes back; two changed copies are our mistake', async () => {
  const { cache } = newCache();
  const table = await l2(cache, 5);
  cache.forget(5 * SIZE);
  cache.touch(table, 0, 1);
  expect(await l2(cache, 5)).toBe(table);
  const other = { ...table };
  expect(() => cache.touch(other, 0, 1)).toThrow('internal error');
});
