// The header cluster: what is encoded parses again, and any bytes at all give a value or an
// ImageError.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { encodeFeatureNames } from '../../src/qcow2/extensions.ts';
import {
  encodeHeader,
  headerClusterSize,
  isQcow2,
  type NewHeader,
  parseHeader,
} from '../../src/qcow2/header.ts';
import { EXTENSION, FEATURE_NAMES, HEADER, INCOMPATIBLE, MAGIC } from '../../src/qcow2/spec.ts';
import { headerWith, SOUND, SOUND_V2 } from '../support/headers.ts';

const ascii = (text: string) => new TextEncoder().encode(text);

const soundHeaders: fc.Arbitrary<NewHeader> = fc
  .record({
    isOld: fc.boolean(),
    clusterBits: fc.integer({ min: 9, max: 21 }),
    l1Size: fc.integer({ min: 64, max: 4096 }),
    size: fc.nat({ max: 1024 * 1024 }),
    tables: fc.tuple(fc.nat({ max: 2 ** 30 }), fc.nat({ max: 2 ** 30 }), fc.nat({ max: 2 ** 30 })),
    nbSnapshots: fc.nat({ max: 65536 }),
    refcountOrder: fc.nat({ max: 6 }),
    zstd: fc.boolean(),
    dirty: fc.boolean(),
    autoclearFeatures: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    backingFile: fc.option(
      fc
        .string({ unit: 'binary', minLength: 1, maxLength: 60 })
        .filter((name) => !name.includes('\0')),
    ),
  })
  .map(({ isOld, clusterBits, tables: [l1, refcounts, snapshots], zstd, dirty, ...rest }) => ({
    ...(isOld ? SOUND_V2 : SOUND),
    ...rest,
    clusterBits,
    l1TableOffset: l1 * 2 ** clusterBits,
    refcountTableOffset: refcounts * 2 ** clusterBits,
    snapshotsOffset: snapshots * 2 ** clusterBits,
    refcountOrder: isOld ? 4 : rest.refcountOrder,
    autoclearFeatures: isOld ? 0n : rest.autoclearFeatures,
    compressionType: zstd && !isOld ? 'zstd' : 'zlib',
    incompatibleFeatures: isOld
      ? 0n
      : (dirty ? INCOMPATIBLE.dirty : 0n) | (zstd ? INCOMPATIBLE.compressionType : 0n),
  }));

test('a header that is encoded parses to what it was made of', () => {
  fc.assert(
    fc.property(soundHeaders, (header) => {
      const parsed = parseHeader(encodeHeader(header));
      const name = header.backingFile === null ? 0 : ascii(header.backingFile).length;
      expect(parsed).toMatchObject({ ...header, backingFileSize: name });
      expect(parsed.backingFileOffset === 0).toBe(header.backingFile === null);
    }),
  );
});

test('extensions come back in order, unknown ones as they are', () => {
  const extensions = [
    { type: EXTENSION.backingFormat, data: ascii('raw') },
    { type: 0x1234_5678, data: Uint8Array.of(1, 2, 3) },
    { type: EXTENSION.featureNameTable, data: encodeFeatureNames(FEATURE_NAMES.slice(0, 2)) },
  ];
  const parsed = parseHeader(encodeHeader({ ...SOUND, extensions, backingFile: 'base' }));
  expect(parsed.extensions).toEqual(extensions);
  expect(parsed).toMatchObject({ backingFile: 'base', backingFormat: 'raw', dataFile: null });
  expect(parsed.featureNames).toEqual(FEATURE_NAMES.slice(0, 2));
  expect(parsed.extensionsEnd).toBe(parsed.backingFileOffset);
});

test('the format of the backing file is null where the header does not say', () => {
  expect(parseHeader(encodeHeader({ ...SOUND, backingFile: 'base' })).backingFormat).toBeNull();
});

test('a version 2 header has refcounts of 16 bits and no features, whatever follows it', () => {
  const bytes = headerWith({}, SOUND_V2);
  const fields = { incompatibleFeatures: 0n, compatibleFeatures: 0n, autoclearFeatures: 0n };
  expect(parseHeader(bytes)).toMatchObject({ ...fields, refcountOrder: 4, headerLength: 72 });
  // An extension where version 3 has its feature words.
  const extensions = [{ type: EXTENSION.backingFormat, data: ascii('qcow2') }];
  const withFormat = parseHeader(encodeHeader({ ...SOUND_V2, extensions, backingFile: 'b' }));
  expect(withFormat).toMatchObject({ ...fields, backingFormat: 'qcow2', backingFile: 'b' });
});

test('a longer header of a newer writer parses: what it adds is skipped', () => {
  const longer = encodeHeader({ ...SOUND, headerLength: 120, backingFile: 'base' });
  longer.fill(0xee, 112, 120);
  expect(parseHeader(longer)).toMatchObject({ headerLength: 120, backingFile: 'base' });
});

test('a header of 104 bytes compresses with zlib, whatever follows it', () => {
  const bytes = headerWith({}, { ...SOUND, headerLength: 104 });
  expect(parseHeader(bytes).compressionType).toBe('zlib');
});

test('only the first sector is needed to know how much to read', () => {
  for (let clusterBits = 9; clusterBits <= 21; clusterBits++) {
    const bytes = encodeHeader({ ...SOUND, clusterBits, l1TableOffset: 0, refcountTableOffset: 0 });
    expect(headerClusterSize(bytes.subarray(0, 512))).toBe(2 ** clusterBits);
  }
});

test('an image is known by its magic and a version from 2 on', () => {
  expect(isQcow2(headerWith({}))).toBe(true);
  expect(isQcow2(headerWith({ version: 4 }))).toBe(true);
  expect(isQcow2(headerWith({ version: 1 }))).toBe(false);
  expect(isQcow2(headerWith({ magic: MAGIC + 1 }))).toBe(false);
  expect(isQcow2(new Uint8Array(7))).toBe(false);
});

/** Sound headers in which some bytes are others: near the limits, where the mistakes are. */
const damaged = fc
  .tuple(
    soundHeaders,
    fc.array(fc.tuple(fc.nat({ max: 300 }), fc.nat({ max: 255 })), { maxLength: 12 }),
    fc.nat({ max: 400 }),
  )
  .map(([header, changes, cut]) => {
    const bytes = new Uint8Array(600);
    bytes.set(encodeHeader(header).subarray(0, 600));
    for (const [at, value] of changes) bytes[at] = value;
    return cut > 200 ? bytes : bytes.subarray(0, 3 * cut);
  });

const fieldSoup = fc
  .record(
    Object.fromEntries(
      Object.entries(HEADER).map(([name, { bits }]) => [
        name,
        fc.oneof(
          fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n }),
          fc.nat({ max: 1024 }).map(BigInt),
          fc.nat({ max: 200 }).map((n) => BigInt(n) * 512n),
        ),
      ]),
    ),
    { requiredKeys: [] },
  )
  .map(({ magic: _magic, version: _version, ...fields }) =>
    headerWith(
      Object.fromEntries(
        Object.entries(fields).map(([name, value]) => [
          name,
          HEADER[name as keyof typeof HEADER].bits === 32 ? Number(value) : value,
        ]),
      ),
    ),
  );

test.each([
  ['any bytes', fc.uint8Array({ maxLength: 700 })],
  ['damaged headers', damaged],
  ['any values of the fields', fieldSoup],
])('%s parse to a header or an ImageError', (_what, arbitrary) => {
  fc.assert(
    fc.property(arbitrary, (bytes) => {
      for (const parse of [parseHeader, headerClusterSize]) {
        try {
          parse(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(ImageError);
        }
      }
    }),
    { numRuns: 1000 },
  );
});

test('a header that does not fit into its cluster is not written', () => {
  const fits = (name: string) => () => encodeHeader({ ...SOUND, backingFile: name });
  // 512 bytes less the header and the end marker of the extensions.
  expect(fits('x'.repeat(512 - 112 - 8))).not.toThrow();
  const expected = expect.objectContaining({ code: 'invalid' });
  expect(fits('x'.repeat(512 - 112 - 8 + 1))).toThrow(expected);
  const long = () => encodeHeader({ ...SOUND, clusterBits: 16, backingFile: 'x'.repeat(1024) });
  expect(long).toThrow(expected);
});
