// Entries of refcount blocks of every width.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { viewOf } from '../../src/qcow2/fields.ts';
import { getRefcount, setRefcount } from '../../src/qcow2/refcount.ts';

const BLOCK = 64;

describe.each([0, 1, 2, 3, 4, 5, 6])('refcounts of 2^%d bits', (order) => {
  const bits = 2 ** order;
  const entries = (BLOCK * 8) / bits;
  const largest = bits >= 53 ? Number.MAX_SAFE_INTEGER : 2 ** bits - 1;

  test('a block is an array of counts: what is set is got, its neighbours stay', () => {
    const changes = fc.array(
      fc.tuple(
        fc.nat({ max: entries - 1 }),
        fc.oneof(fc.nat({ max: largest }), fc.constantFrom(0, 1, largest)),
      ),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(changes, (list) => {
        const block = new Uint8Array(BLOCK);
        const model = new Array<number>(entries).fill(0);
        for (const [index, count] of list) {
          setRefcount(block, index, order, count);
          model[index] = count;
        }
        expect(model.map((_, index) => getRefcount(block, index, order))).toEqual(model);
      }),
    );
  });

  test('a block may lie anywhere in its buffer', () => {
    const buffer = new Uint8Array(BLOCK + 24).fill(0xff);
    const block = buffer.subarray(11, 11 + BLOCK);
    block.fill(0);
    setRefcount(block, 0, order, 1);
    setRefcount(block, entries - 1, order, 1);
    expect(getRefcount(block, entries - 1, order)).toBe(1);
    setRefcount(block, 0, order, 0);
    setRefcount(block, entries - 1, order, 0);
    const outside = [...buffer.subarray(0, 11), ...buffer.subarray(11 + BLOCK)];
    expect(outside.every((byte) => byte === 0xff)).toBe(true);
    expect(block.every((byte) => byte === 0)).toBe(true);
  });
});

test('narrow entries start at the least significant bit', () => {
  const block = new Uint8Array(2);
  setRefcount(block, 0, 0, 1);
  setRefcount(block, 9, 0, 1);
  expect([...block]).toEqual([0b1, 0b10]);
  setRefcount(block, 1, 1, 3);
  expect(block[0]).toBe(0b1101);
  setRefcount(block, 3, 2, 0xa);
  expect(block[1]).toBe(0xa2);
});

test('wide entries are big-endian', () => {
  const block = new Uint8Array(8);
  setRefcount(block, 1, 4, 0x1234);
  expect([...block.subarray(2, 4)]).toEqual([0x12, 0x34]);
  setRefcount(block, 0, 6, 0x0001_0203_0405_06);
  expect([...block]).toEqual([0, 0, 1, 2, 3, 4, 5, 6]);
});

test('a 64-bit count above 2^53 - 1 is refused', () => {
  const block = new Uint8Array(16);
  viewOf(block).setBigUint64(8, 2n ** 53n - 1n);
  expect(getRefcount(block, 1, 6)).toBe(Number.MAX_SAFE_INTEGER);
  viewOf(block).setBigUint64(8, 2n ** 53n);
  const expected = expect.objectContaining({ code: 'corrupt' });
  expect(() => getRefcount(block, 1, 6)).toThrow(expected);
});
