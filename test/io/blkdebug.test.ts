// Storages over others: the contract where nothing fails, and what rules do to requests.

import { expect, test } from 'vitest';
import { BlkdebugStorage, DebugState, type InjectError } from '../../src/io/blkdebug.ts';
import { MemoryFile, MemoryStorage } from '../../src/io/memory.ts';
import { NullStorage } from '../../src/io/null.ts';
import { SliceStorage } from '../../src/io/slice.ts';
import { storageContract } from '../support/storage-contract.ts';

storageContract('blkdebug without rules', async (content) => {
  const file = new MemoryFile(content);
  return {
    open: async ({ writable }) => new BlkdebugStorage(new MemoryStorage(file, { writable }), []),
  };
});

const OFFSET = 1536;

for (const fixed of [false, true]) {
  storageContract(`a slice ${fixed ? 'of fixed size' : 'to the end'}`, async (content) => {
    const inner = new Uint8Array(OFFSET + content.length + (fixed ? 100 : 0)).fill(0xaa);
    inner.set(content, OFFSET);
    const file = new MemoryFile(inner);
    return {
      open: async ({ writable }) =>
        new SliceStorage(
          new MemoryStorage(file, { writable }),
          OFFSET,
          fixed ? content.length : undefined,
        ),
    };
  });
}

test('a slice leaves what lies outside alone', async () => {
  const inner = new MemoryStorage(new Uint8Array(4096).fill(1));
  const slice = new SliceStorage(inner, 1024, 1024);
  await slice.write(0, new Uint8Array(1024).fill(2), 'data');
  await expect(slice.write(1, new Uint8Array(1024), 'data')).rejects.toMatchObject({
    errno: 'ENOSPC',
  });
  const expected = new Uint8Array(4096).fill(1).fill(2, 1024, 2048);
  expect(inner.bytes()).toEqual(expected);
});

test('nothing has a size, reads as zeros and forgets what is written', async () => {
  let waits = 0;
  const delay = async () => {
    waits++;
  };
  const storage = new NullStorage({ size: 1024, writable: true, readZeroes: true, delay });
  await storage.write(0, new Uint8Array(512).fill(1));
  const target = new Uint8Array(16).fill(0xee);
  await storage.read(0, target);
  expect(target).toEqual(new Uint8Array(16));
  expect(await storage.extentAt()).toEqual({ data: false, end: 1024 });
  await expect(storage.write(1000, new Uint8Array(25))).rejects.toMatchObject({ errno: 'ENOSPC' });
  expect(waits).toBe(2);
  const readOnly = new NullStorage({ size: 1024, writable: false });
  await expect(readOnly.zero(0, 1)).rejects.toMatchObject({ code: 'read-only' });
});

const rule = (more: Partial<InjectError>): InjectError => ({
  kind: 'inject-error',
  event: 'write_aio',
  state: 0,
  errno: 'EIO',
  requests: null,
  offset: null,
  once: false,
  ...more,
});

test('a rule fails nothing before its event, and all requests after it', () => {
  const state = new DebugState([rule({})]);
  expect(state.check('write', 0, 512)).toBeUndefined();
  state.event('read_aio');
  expect(state.check('write', 0, 512)).toBeUndefined();
  state.event('write_aio');
  expect(state.check('write', 0, 512)).toBe('EIO');
  expect(state.check('flush', 0, 0)).toBe('EIO');
  expect(state.check('block-status', 0, 1)).toBeUndefined();
});

test('a rule for one time fails one request, and never again', () => {
  const state = new DebugState([rule({ once: true })]);
  state.event('write_aio');
  expect(state.check('read', 0, 1)).toBe('EIO');
  state.event('write_aio');
  expect(state.check('read', 0, 1)).toBeUndefined();
});

test('the event none has happened before anything else', () => {
  expect(new DebugState([rule({ event: 'none' })]).check('read', 0, 1)).toBe('EIO');
});

test('a rule for a place or a kind of request lets others pass', () => {
  const state = new DebugState([rule({ offset: 1024 }), rule({ requests: 'flush' })]);
  state.event('write_aio');
  expect(state.check('write', 0, 1024)).toBeUndefined();
  expect(state.check('write', 512, 513)).toBe('EIO');
  expect(state.check('flush', 0, 0)).toBe('EIO');
});

test('states order rules: the second write fails', () => {
  const state = new DebugState([
    { kind: 'set-state', event: 'write_aio', state: 1, newState: 2 },
    rule({ state: 2 }),
  ]);
  state.event('write_aio');
  expect(state.check('write', 0, 1)).toBeUndefined();
  state.event('write_aio');
  expect(state.check('write', 0, 1)).toBe('EIO');
});

test('other rules that become active replace those before', () => {
  const state = new DebugState([rule({}), rule({ event: 'l2_load', errno: 'ENOSPC', once: true })]);
  state.event('write_aio');
  state.event('l2_load');
  expect(state.check('read', 0, 1)).toBe('ENOSPC');
  expect(state.check('read', 0, 1)).toBeUndefined();
});
