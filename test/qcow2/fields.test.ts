// Structures read and written by their field table.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readFields, readU64, viewOf, writeField, writeU64 } from '../../src/qcow2/fields.ts';
import { type Field, HEADER } from '../../src/qcow2/spec.ts';

function valuesOf({ bits, as }: Field): fc.Arbitrary<number | bigint> {
  if (as === 'flags') return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  return fc.nat({ max: bits === 32 ? 2 ** 32 - 1 : Number.MAX_SAFE_INTEGER });
}

const headers = fc.record(
  Object.fromEntries(Object.entries(HEADER).map(([name, field]) => [name, valuesOf(field)])),
);

test('what is written field by field is read again', () => {
  fc.assert(
    fc.property(headers, (values) => {
      const bytes = new Uint8Array(104);
      for (const [name, field] of Object.entries(HEADER)) {
        writeField(bytes, field, values[name] ?? 0);
      }
      expect(readFields(HEADER, bytes)).toEqual(values);
    }),
  );
});

test('fields past the end of the bytes read as zero', () => {
  const bytes = new Uint8Array(72).fill(0);
  writeField(bytes, HEADER.snapshotsOffset, 0x1234_5678_9abc);
  const fields = readFields(HEADER, bytes);
  expect(fields.snapshotsOffset).toBe(0x1234_5678_9abc);
  expect(fields.incompatibleFeatures).toBe(0n);
  expect(fields.refcountOrder).toBe(0);
  // A field that is there in part is not there.
  expect(readFields(HEADER, bytes.subarray(0, 71)).snapshotsOffset).toBe(0);
});

test('a view covers the bytes of a subarray, not its buffer', () => {
  const bytes = Uint8Array.of(9, 9, 0, 0, 0, 5, 9).subarray(2, 6);
  expect(viewOf(bytes).byteLength).toBe(4);
  expect(viewOf(bytes).getUint32(0)).toBe(5);
});

test('64-bit numbers are big-endian and exact up to 2^53 - 1', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      const view = new DataView(new ArrayBuffer(8));
      writeU64(view, 0, value);
      expect(view.getBigUint64(0)).toBe(BigInt(value));
      expect(readU64(view, 0, 'it')).toBe(value);
    }),
  );
});

test('64-bit numbers above 2^53 - 1 are refused by name, never rounded', () => {
  const above = fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n });
  fc.assert(
    fc.property(above, (value) => {
      const view = new DataView(new ArrayBuffer(8));
      view.setBigUint64(0, value);
      const expected = { code: 'corrupt', message: 'the thing is beyond 2^53 - 1 bytes' };
      expect(() => readU64(view, 0, 'the thing')).toThrow(expect.objectContaining(expected));
    }),
  );
});

test('a header field above 2^53 - 1 is refused by its name', () => {
  const bytes = new Uint8Array(104);
  viewOf(bytes).setBigUint64(HEADER.size.offset, 2n ** 63n);
  const expected = { code: 'corrupt', message: 'size is beyond 2^53 - 1 bytes' };
  expect(() => readFields(HEADER, bytes)).toThrow(expect.objectContaining(expected));
});
