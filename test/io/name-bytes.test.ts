// Names of files as strings, whatever their bytes are.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeName, encodeName, hasEscapes } from '../../src/io/name-bytes.ts';

test('any bytes come back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), (bytes) => {
      expect(encodeName(decodeName(bytes))).toEqual(Uint8Array.from(bytes));
    }),
  );
});

test('valid text is itself', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 20 }), (text) => {
      expect(decodeName(new TextEncoder().encode(text))).toBe(text);
      expect(hasEscapes(text)).toBe(false);
    }),
  );
});

test('only bytes that are no text are escaped', () => {
  const name = decodeName(
    Uint8Array.of(0x61, 0xff, 0xc3, 0xa4, 0xf0, 0x9f, 0xf0, 0x9f, 0x99, 0x82),
  );
  expect(name).toBe('a\udcff\u00e4\udcf0\udc9f\u{1f642}');
  expect(hasEscapes(name)).toBe(true);
});
