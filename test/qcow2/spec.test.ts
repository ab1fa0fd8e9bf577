// The tables of the specification themselves.

import { expect, test } from 'vitest';
import {
  AUTOCLEAR,
  type Field,
  HEADER,
  INCOMPATIBLE,
  KNOWN_AUTOCLEAR,
  KNOWN_INCOMPATIBLE,
  SNAPSHOT,
  SNAPSHOT_FIXED_LENGTH,
  SNAPSHOT_ID_LENGTH_OFFSET,
  SNAPSHOT_NAME_LENGTH_OFFSET,
  V2_HEADER_LENGTH,
  V3_HEADER_LENGTH,
} from '../../src/qcow2/spec.ts';

function endOf({ offset, bits }: Field): number {
  return offset + bits / 8;
}

test('the header fields touch without gaps, in order, and end at byte 104', () => {
  let end = 0;
  for (const field of Object.values(HEADER)) {
    expect(field.offset).toBe(end);
    end = endOf(field);
  }
  expect(end).toBe(V3_HEADER_LENGTH);
  expect(V3_HEADER_LENGTH).toBe(104);
});

test('a version 2 header ends where the feature words begin', () => {
  expect(endOf(HEADER.snapshotsOffset)).toBe(V2_HEADER_LENGTH);
  expect(HEADER.incompatibleFeatures.offset).toBe(V2_HEADER_LENGTH);
});

test('the fields of a snapshot leave room for nothing but the two lengths', () => {
  const fields = Object.values(SNAPSHOT);
  const lengths = [SNAPSHOT_ID_LENGTH_OFFSET, SNAPSHOT_NAME_LENGTH_OFFSET];
  const covered = [
    ...fields.map((field) => [field.offset, endOf(field)]),
    ...lengths.map((offset) => [offset, offset + 2]),
  ].sort(([a = 0], [b = 0]) => a - b);
  let end = 0;
  for (const [start, stop = 0] of covered) {
    expect(start).toBe(end);
    end = stop;
  }
  expect(end).toBe(SNAPSHOT_FIXED_LENGTH);
});

test('feature bits are single bits, each its own, and all of them count as known', () => {
  for (const [bits, known] of [
    [Object.values(INCOMPATIBLE), KNOWN_INCOMPATIBLE],
    [Object.values(AUTOCLEAR), KNOWN_AUTOCLEAR],
  ] as const) {
    for (const bit of bits) expect(bit & (bit - 1n)).toBe(0n);
    expect(bits.reduce((sum, bit) => sum + bit, 0n)).toBe(known);
  }
});
