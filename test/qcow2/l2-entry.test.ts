// Table entries: any 64 bits are refused, or mean something that gives the same 64 bits again.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import {
  clusterOffset,
  decodeCompressed,
  decodeL2Entry,
  encodeEntry,
  type L2Entry,
} from '../../src/qcow2/l2-entry.ts';
import { hostOffset } from '../../src/units.ts';

const CLUSTER_BITS = Array.from({ length: 13 }, (_, i) => 9 + i);
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

const halves = (entry: bigint) => [Number(entry >> 32n), Number(entry & 0xffff_ffffn)] as const;
const decode = (entry: bigint, clusterBits: number, version = 3) =>
  decodeL2Entry(...halves(entry), { clusterBits, externalData: false }, version);

/** The specification's words: offset in bits 0..x-1, additional sectors in bits x..61. */
function compressedBits(host: bigint, lengthBytes: bigint, clusterBits: number): bigint {
  const x = BigInt(62 - (clusterBits - 8));
  const additional = ((host % 512n) + lengthBytes) / 512n - 1n;
  return COMPRESSED | (additional << x) | host;
}

function encoded(entry: L2Entry, clusterBits: number): bigint {
  if (entry.kind === 'unallocated') return 0n;
  if (entry.kind === 'compressed') {
    return compressedBits(BigInt(entry.host), BigInt(entry.lengthBytes), clusterBits);
  }
  const view = new DataView(new ArrayBuffer(8));
  const flags = { copied: entry.copied, zero: entry.kind === 'zero' };
  encodeEntry(view, 0, entry.host ?? 0, flags);
  return view.getBigUint64(0);
}

const anyBits = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
/** Few bits set, so that many of them mean something. */
const fewBits = fc
  .array(fc.constantFrom(0, 1, 8, 9, 12, 16, 20, 21, 40, 48, 52, 53, 55, 56, 61, 62, 63), {
    maxLength: 4,
  })
  .map((bits) => bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n));
/** Compressed descriptors up to the largest offset that a number holds exactly. */
const descriptors = (clusterBits: number) =>
  fc
    .tuple(fc.maxSafeNat(), fc.nat({ max: 2 ** (clusterBits - 8) - 1 }))
    .map(([host, additional]) => {
      const x = BigInt(62 - (clusterBits - 8));
      return COMPRESSED | (BigInt(additional) << x) | (BigInt(host) & ((1n << x) - 1n));
    });

describe.each(CLUSTER_BITS)('with clusters of 2^%d bytes', (clusterBits) => {
  test.each([2, 3])('any entry of version %d is refused or re-encoded identically', (version) => {
    const entries = fc.oneof(anyBits, fewBits, descriptors(clusterBits));
    fc.assert(
      fc.property(entries, (bits) => {
        let entry: L2Entry;
        try {
          entry = decode(bits, clusterBits, version);
        } catch (error) {
          expect(error).toBeInstanceOf(ImageError);
          expect(error).toMatchObject({ code: 'corrupt' });
          return;
        }
        // Its offset is rounded: see found-compressed-offset.test.ts.
        if (entry.kind === 'compressed' && !Number.isSafeInteger(entry.host)) return;
        expect(encoded(entry, clusterBits)).toBe(bits);
      }),
      { numRuns: 400 },
    );
  });

  test('compressed descriptors say what the specification says', () => {
    fc.assert(
      fc.property(descriptors(clusterBits), (bits) => {
        const x = BigInt(62 - (clusterBits - 8));
        const host = bits & ((1n << x) - 1n);
        const additional = (bits & ~COMPRESSED) >> x;
        const length = (additional + 1n) * 512n - (host % 512n);
        const expected = { kind: 'compressed', host: Number(host), lengthBytes: Number(length) };
        expect(decode(bits, clusterBits)).toEqual(expected);
        expect(decodeCompressed(...halves(bits), clusterBits)).toEqual(expected);
      }),
    );
  });

  test('a host cluster has to be aligned', () => {
    const aligned = BigInt(2 ** clusterBits);
    expect(decode(aligned, clusterBits)).toMatchObject({ kind: 'data', copied: false });
    if (clusterBits === 9) return;
    const message = expect.stringContaining('not aligned');
    expect(() => decode(aligned + 512n, clusterBits)).toThrow(
      expect.objectContaining({ code: 'corrupt', message }),
    );
  });
});

test.each<[string, bigint, L2Entry]>([
  ['nothing', 0n, { kind: 'unallocated' }],
  ['zeros', 1n, { kind: 'zero', host: null, copied: false }],
  ['zeros in place', COPIED | 65537n, { kind: 'zero', host: hostOffset(65536), copied: true }],
  ['data', COPIED | 65536n, { kind: 'data', host: hostOffset(65536), copied: true }],
  ['shared data', 1n << 55n, { kind: 'data', host: hostOffset(2 ** 55), copied: false }],
])('%s', (_what, bits, entry) => {
  expect(decode(bits, 16)).toEqual(entry);
});

test.each<[string, bigint, number]>([
  ['bit 56', 1n << 56n, 3],
  ['bit 61', 1n << 61n, 3],
  ['bit 1', 65536n | 2n, 3],
  ['bit 8', 65536n | 256n, 3],
  ['the zero flag in version 2', 1n, 2],
  ['COPIED without a cluster', COPIED, 3],
  ['COPIED on a compressed cluster', COPIED | COMPRESSED | 512n, 3],
])('%s is refused, with the entry in the message', (_what, bits, version) => {
  const hex = bits.toString(16).padStart(16, '0');
  const expected = { code: 'corrupt', message: expect.stringContaining(`0x${hex}`) };
  expect(() => decode(bits, 16, version)).toThrow(expect.objectContaining(expected));
});

test('a compressed offset beyond what any table entry can hold is refused', () => {
  const expected = expect.objectContaining({ code: 'corrupt' });
  expect(() => decode(COMPRESSED | (1n << 56n), 9)).toThrow(expected);
});

test('the offset of a table entry is what is in bits 9 to 55', () => {
  fc.assert(
    fc.property(anyBits, (bits) => {
      const offset = bits & 0x00ff_ffff_ffff_fe00n;
      expect(BigInt(clusterOffset(...halves(bits)))).toBe(offset);
    }),
  );
});
