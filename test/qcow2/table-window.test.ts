// Tables that are read ahead: what they cost, and that they are never older than the file.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { TableWindow } from '../../src/qcow2/table-window.ts';

const TABLE = 512;
const COUNT = 8192;

class CountedStorage extends MemoryStorage {
  reads = 0;
  brought = 0;

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.reads++;
    this.brought += target.length;
    await super.read(offset, target);
  }
}

function numbered(writable = false): CountedStorage {
  const bytes = new Uint8Array(COUNT * TABLE);
  for (let i = 0; i < COUNT; i++) bytes.fill(i % 251, i * TABLE, (i + 1) * TABLE);
  return new CountedStorage(bytes, { writable });
}

async function lookAt(window: TableWindow, indexes: readonly number[]): Promise<void> {
  for (const index of indexes) {
    const offset = index * TABLE;
    const table = window.at(offset) ?? (await window.fetch(offset));
    expect(table?.offset).toBe(offset);
    expect(table?.bytes.every((byte) => byte === index % 251)).toBe(true);
    expect(table?.view.getUint8(TABLE - 1)).toBe(index % 251);
  }
}

const all = Array.from({ length: COUNT }, (_, i) => i);

test.each([
  ['forwards', all],
  ['backwards', all.toReversed()],
  ['each fifth', all.map((i) => (i * 5) % COUNT)],
])('%s, few reads bring all tables', async (_, order) => {
  const storage = numbered();
  await lookAt(new TableWindow(storage, TABLE), order);
  expect(storage.reads).toBeLessThan(100);
});

test('scattered tables bring few others along', async () => {
  const storage = numbered();
  const order = all.map((i) => (i * 2741) % COUNT);
  await lookAt(new TableWindow(storage, TABLE, 64 * 1024), order);
  expect(storage.brought).toBeLessThan(COUNT * 8 * 1024);
});

test('nothing is read ahead of a file that is written to, or was made writable', async () => {
  expect(await new TableWindow(numbered(true), TABLE).fetch(0)).toBeUndefined();
  const storage = numbered();
  const window = new TableWindow(storage, TABLE);
  await lookAt(window, [0, 1]);
  await storage.makeWritable();
  await storage.write(TABLE, new Uint8Array(TABLE), 'l2');
  expect(window.at(TABLE)).toBeUndefined();
  expect(await window.fetch(TABLE)).toBeUndefined();
});

test('a table that is not all there, or lies across others, is read by itself', async () => {
  const storage = numbered();
  const window = new TableWindow(storage, TABLE);
  expect(await window.fetch(COUNT * TABLE)).toBeUndefined();
  expect(await window.fetch(COUNT * TABLE - 8)).toBeUndefined();
  expect(await window.fetch(8)).toBeUndefined();
});

test('while one is on its way another one is read by itself', async () => {
  const window = new TableWindow(numbered(), TABLE);
  const first = window.fetch(0);
  expect(await window.fetch(64 * TABLE)).toBeUndefined();
  expect((await first)?.offset).toBe(0);
});

test('what can not be read ahead is left to a read of its own', async () => {
  const storage = numbered();
  const window = new TableWindow(storage, TABLE);
  storage.read = () => Promise.reject(new Error('broken'));
  expect(await window.fetch(0)).toBeUndefined();
  expect(window.at(0)).toBeUndefined();
});
