// The header extension area.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import {
  encodeExtensions,
  encodeFeatureNames,
  findExtension,
  parseBitmapsExtension,
  parseEncryptionHeader,
  parseExtensions,
  parseFeatureNames,
} from '../../src/qcow2/extensions.ts';
import { FEATURE_NAMES } from '../../src/qcow2/spec.ts';

const extension = fc.record({
  type: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  data: fc.uint8Array({ maxLength: 40 }),
});

test('extensions of any type and length are kept as they are, in order', () => {
  fc.assert(
    fc.property(fc.array(extension, { maxLength: 6 }), fc.nat({ max: 30 }), (list, start) => {
      const area = encodeExtensions(list);
      const bytes = new Uint8Array(start + area.length + 20).fill(0xff);
      bytes.set(area, start);
      const parsed = parseExtensions(bytes, start, bytes.length);
      expect(parsed.extensions).toEqual(list);
      expect(parsed.end).toBe(start + area.length);
    }),
  );
});

test('each one starts at a multiple of 8 bytes, and the end marker is 8 zeros', () => {
  const area = encodeExtensions([{ type: 7, data: Uint8Array.of(1) }]);
  expect([...area]).toEqual([0, 0, 0, 7, 0, 0, 0, 1, 1, ...new Array(15).fill(0)]);
});

test('any bytes give extensions or an ImageError, and never reach outside of the area', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(130), fc.nat(120), (bytes, a, b) => {
      const end = Math.min(b, bytes.length);
      try {
        const parsed = parseExtensions(bytes, a, end);
        expect(parsed.end).toBeLessThanOrEqual(end);
      } catch (error) {
        expect(error).toBeInstanceOf(ImageError);
      }
    }),
    { numRuns: 1000 },
  );
});

test('one that ends past the area is too large', () => {
  const area = encodeExtensions([{ type: 7, data: new Uint8Array(16) }]);
  const tooLarge = { code: 'corrupt', message: 'Header extension too large' };
  const parse = (end: number) => () => parseExtensions(area, 0, end);
  expect(parse(23)).toThrow(expect.objectContaining(tooLarge));
  expect(parse(24)().extensions).toHaveLength(1);
  // Less than a type and a length.
  expect(parse(7)).toThrow(expect.objectContaining(tooLarge));
  expect(parse(0)()).toEqual({ extensions: [], end: 0 });
});

test('the padding of the last one may be cut off', () => {
  const area = encodeExtensions([{ type: 7, data: Uint8Array.of(1, 2, 3) }]);
  expect(parseExtensions(area, 0, 11).extensions[0]?.data).toEqual(Uint8Array.of(1, 2, 3));
  expect(parseExtensions(area, 0, 11).end).toBe(11);
});

test('the first of a type is found', () => {
  const list = [1, 2, 2].map((type, i) => ({ type, data: Uint8Array.of(i) }));
  expect(findExtension(list, 2)).toEqual(Uint8Array.of(1));
  expect(findExtension(list, 3)).toBeUndefined();
});

test('feature names come back; the rest of a table that is cut short is left out', () => {
  const data = encodeFeatureNames(FEATURE_NAMES);
  expect(parseFeatureNames(data)).toEqual(FEATURE_NAMES);
  expect(parseFeatureNames(data.subarray(0, data.length - 1))).toHaveLength(7);
  expect(parseFeatureNames(new Uint8Array())).toEqual([]);
});

test('a feature name may fill its field without a zero behind it', () => {
  const name = 'n'.repeat(46);
  expect(parseFeatureNames(encodeFeatureNames([{ type: 0, bit: 9, name }]))).toEqual([
    { type: 0, bit: 9, name },
  ]);
});

test('the bitmaps extension has 24 bytes, the encryption pointer 16', () => {
  const data = new Uint8Array(24);
  new DataView(data.buffer).setUint32(0, 3);
  new DataView(data.buffer).setBigUint64(8, 96n);
  new DataView(data.buffer).setBigUint64(16, 65536n);
  const bitmaps = { nbBitmaps: 3, reserved: 0, directorySize: 96, directoryOffset: 65536 };
  expect(parseBitmapsExtension(data)).toEqual(bitmaps);
  expect(parseEncryptionHeader(data.subarray(8))).toEqual({ offset: 96, length: 65536 });
  const corrupt = expect.objectContaining({ code: 'corrupt' });
  for (const length of [0, 15, 17, 23, 25]) {
    expect(() => parseBitmapsExtension(new Uint8Array(length))).toThrow(corrupt);
    expect(() => parseEncryptionHeader(new Uint8Array(length))).toThrow(corrupt);
  }
});
