// JSON as QEMU reads and prints it.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { type JsonValue, parseJson } from '../../src/json/parser.ts';
import { inTableOrder, printJson } from '../../src/json/printer.ts';

test('what JSON.stringify writes is read as JSON.parse reads it', () =>
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), (text) => {
      expect(parseJson(text)).toEqual(JSON.parse(text));
    }),
  ));

test('any text gives a value or an ImageError', () =>
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...`{}[],:"'\\u0123e.-+ tnf`) })),
      (text) => {
        try {
          parseJson(text);
        } catch (error) {
          expect(error).toBeInstanceOf(ImageError);
        }
      },
    ),
  ));

test('what is printed is read as the same value', () =>
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 3 }), (value) => {
      expect(parseJson(printJson(value as JsonValue))).toEqual(value);
    }),
  ));

test('deep nesting is refused, not a crash', () => {
  expect(() => parseJson('['.repeat(100_000))).toThrow('nesting too deep');
});

test('strings may be in either quotes, with escapes', () => {
  expect(parseJson(`{'a': "b'\\n\\u00e9\\ud83d\\ude00", "c": '"\\''}`)).toEqual({
    a: "b'\né😀",
    c: `"'`,
  });
});

test('a key of any name is a key', () => {
  const value = parseJson('{"__proto__": 1}');
  expect(Object.keys(value as object)).toEqual(['__proto__']);
});

test('members come in the order of a dictionary of QEMU', () => {
  const keys = ['driver', 'file', 'size', 'offset', 'read-zeroes'];
  expect(inTableOrder(keys)).toEqual(['read-zeroes', 'offset', 'driver', 'size', 'file']);
  expect(printJson({ size: '1G', driver: 'null-co' })).toBe('{"driver": "null-co", "size": "1G"}');
});
