// Sizes with suffixes and alignment.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  alignDown,
  alignUp,
  checkOffset,
  divideUp,
  joinU64,
  parseExactSize,
  parseSize,
} from '../src/units.ts';

describe('parseSize', () => {
  test.each([
    ['0', 0],
    ['512', 512],
    ['007', 7],
    ['1b', 1],
    ['1k', 1024],
    ['1K', 1024],
    ['64M', 64 * 1024 ** 2],
    ['2g', 2 * 1024 ** 3],
    ['3T', 3 * 1024 ** 4],
    ['1P', 1024 ** 5],
    ['7E', 7 * 1024 ** 6],
    ['1.5k', 1536],
    ['0.5G', 512 * 1024 ** 2],
    ['1.k', 1024],
    ['0.0001k', 0],
    ['0x10', 16],
    ['0XfF', 255],
    [' 1', 1],
    ['+1', 1],
    ['1.', 1],
    ['1.0b', 1],
    ['0x1k', 1024],
    ['0x1fffffffffffff', Number.MAX_SAFE_INTEGER],
  ])('%j is %d bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each([
    ...['', ' ', 'k', '-1', '+-1', '1 k', '1 ', '1kk', '1kB', '1x', 'x1', '1,5k'],
    ...['1.5', '1.5b', '.5k', '1e3', '0x', '0x1.5k', '0xg', 'NaN', 'Infinity'],
    ...['8E', '9223372036854775808', '0x8000000000000000', '99999999999999999999999'],
  ])('%j is no size', (text) => {
    expect(parseSize(text)).toBeUndefined();
  });

  test('any text is a size that is not negative, or none', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789.xkMGe-') }), (text) => {
        const size = parseSize(text);
        if (size === undefined) return;
        expect(Number.isInteger(size)).toBe(true);
        expect(size).toBeGreaterThanOrEqual(0);
        expect(size).toBeLessThan(2 ** 63);
      }),
    );
  });

  test('whole numbers of bytes come back exactly', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (n) => void expect(parseSize(String(n))).toBe(n)));
  });
});

test('exact sizes reach to 2^64 - 1', () => {
  expect(parseExactSize('18446744073709551615')).toBe(2n ** 64n - 1n);
  expect(parseExactSize('15.5E')).toBe(31n * 2n ** 59n);
  expect(parseExactSize('18446744073709551616')).toBe('too-large');
  expect(parseExactSize('16E')).toBe('too-large');
  expect(parseExactSize('many')).toBeUndefined();
});

describe('alignment', () => {
  const units = fc.nat({ max: 32 }).map((power) => 2 ** power);

  test('is exact for all safe integers, far beyond 32 bits', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 52 }), units, (value, unit) => {
        const [down, up] = [alignDown(value, unit), alignUp(value, unit)];
        expect(BigInt(down)).toBe(BigInt(value) - (BigInt(value) % BigInt(unit)));
        expect(up - down).toBe(value % unit === 0 ? 0 : unit);
        expect(divideUp(value, unit) * unit).toBe(up);
      }),
    );
  });

  test('of what is aligned changes nothing', () => {
    expect([alignDown(0, 512), alignUp(0, 512), divideUp(0, 512)]).toEqual([0, 0, 0]);
    expect([alignDown(1024, 512), alignUp(1024, 512)]).toEqual([1024, 1024]);
  });
});

test('two halves make a number, whatever their sign', () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 21 - 1 }), fc.nat({ max: 2 ** 32 - 1 }), (high, low) => {
      const expected = Number((BigInt(high) << 32n) | BigInt(low));
      expect(joinU64(high, low)).toBe(expected);
      expect(joinU64(high | 0, low | 0)).toBe(expected);
    }),
  );
});

test.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])('%d is no offset', (value) => {
  const message = `the offset is out of range: ${value}`;
  const expected = expect.objectContaining({ code: 'invalid', message });
  expect(() => checkOffset(value, 'the offset')).toThrow(expected);
});

test('0 and 2^53 - 1 are offsets', () => {
  expect(() => checkOffset(0, 'it')).not.toThrow();
  expect(() => checkOffset(Number.MAX_SAFE_INTEGER, 'it')).not.toThrow();
});
