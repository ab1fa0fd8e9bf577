// What a header may not say, one limit at a time, and the last value that it may.

import { describe, expect, test } from 'vitest';
import { encodeFeatureNames } from '../../src/qcow2/extensions.ts';
import { encodeHeader, type NewHeader, parseHeader } from '../../src/qcow2/header.ts';
import { EXTENSION, INCOMPATIBLE } from '../../src/qcow2/spec.ts';
import { headerWith, type RawFields, SOUND, SOUND_V2 } from '../support/headers.ts';

const refusal = (code: string, message: string) => expect.objectContaining({ code, message });

test.each<[RawFields, string, string]>([
  [{ magic: 0 }, 'format', 'Image is not in qcow2 format'],
  [{ version: 1 }, 'unsupported', 'Unsupported qcow2 version 1'],
  [{ version: 4 }, 'unsupported', 'Unsupported qcow2 version 4'],
  [{ clusterBits: 8 }, 'unsupported', 'Unsupported cluster size: 2^8'],
  [{ clusterBits: 22 }, 'unsupported', 'Unsupported cluster size: 2^22'],
  [{ headerLength: 103 }, 'corrupt', 'qcow2 header too short'],
  [{ headerLength: 513 }, 'corrupt', 'qcow2 header exceeds cluster size'],
  [{ backingFileOffset: 513 }, 'corrupt', 'Invalid backing file offset'],
  [{ refcountOrder: 7 }, 'corrupt', expect.stringContaining('may not exceed 64 bits')],
  [{ cryptMethod: 3 }, 'unsupported', 'Unsupported encryption method 3'],
  [{ refcountTableClusters: 0 }, 'corrupt', 'Image does not contain a reference count table'],
  [{ refcountTableClusters: 16385 }, 'corrupt', 'Reference count table too large'],
  [{ refcountTableOffset: 513 }, 'corrupt', 'Reference count table offset invalid'],
  [{ refcountTableOffset: 2 ** 56 }, 'corrupt', 'Reference count table offset invalid'],
  [{ nbSnapshots: 65537 }, 'corrupt', 'Snapshot table too large'],
  [{ snapshotsOffset: 256 }, 'corrupt', 'Snapshot table offset invalid'],
  [{ l1Size: 4 * 1024 * 1024 + 1 }, 'corrupt', 'Active L1 table too large'],
  [{ l1Size: 31 }, 'corrupt', 'L1 table is too small'],
  [{ size: 2 ** 52, l1Size: 1 }, 'corrupt', 'Image is too big'],
  [{ size: 2 ** 63 }, 'corrupt', 'size is beyond 2^53 - 1 bytes'],
  [{ l1TableOffset: 1 }, 'corrupt', 'Active L1 table offset invalid'],
  [{ l1TableOffset: 2 ** 60 }, 'corrupt', 'Active L1 table offset invalid'],
  [{ snapshotsOffset: 2 ** 60 }, 'corrupt', 'Snapshot table offset invalid'],
  [{ backingFileOffset: 2 ** 63 }, 'corrupt', 'Invalid backing file offset'],
])('%j is refused as %s', (fields, code, message) => {
  expect(() => parseHeader(headerWith(fields))).toThrow(refusal(code, message));
});

test.each<[RawFields]>([
  [{ headerLength: 104 }],
  [{ headerLength: 512 }],
  [{ refcountOrder: 0 }],
  [{ refcountOrder: 6 }],
  [{ cryptMethod: 1 }],
  [{ cryptMethod: 2 }],
  [{ refcountTableClusters: 16384 }],
  [{ nbSnapshots: 65536 }],
  [{ l1Size: 4 * 1024 * 1024 }],
  [{ l1Size: 0, size: 0 }],
  [{ compatibleFeatures: 2 ** 63 }],
  [{ autoclearFeatures: 2 ** 63 }],
])('%j is let pass', (fields) => {
  expect(() => parseHeader(headerWith(fields))).not.toThrow();
});

test('fewer bytes than the shortest header are no image', () => {
  const bytes = headerWith({});
  const tooShort = refusal('format', 'qcow2 header too short');
  expect(() => parseHeader(bytes.subarray(0, 103))).toThrow(tooShort);
  expect(() => parseHeader(headerWith({}, SOUND_V2).subarray(0, 71))).toThrow(tooShort);
  const noMagic = refusal('format', 'Image is not in qcow2 format');
  expect(() => parseHeader(bytes.subarray(0, 7))).toThrow(noMagic);
  // What is missing after it reads as zeros.
  expect(() => parseHeader(bytes.subarray(0, 104))).not.toThrow();
});

describe('unknown incompatible features', () => {
  const names = [
    { type: 0, bit: 40, name: 'time travel' },
    { type: 1, bit: 41, name: 'of another word' },
    { type: 0, bit: 200, name: 'of no bit' },
  ];
  const data = encodeFeatureNames(names);
  const named = { ...SOUND, extensions: [{ type: EXTENSION.featureNameTable, data }] };
  const parse = (incompatibleFeatures: bigint, header: NewHeader = named) =>
    parseHeader(encodeHeader({ ...header, incompatibleFeatures }));

  test('are refused by the names of the feature name table', () => {
    const message = 'Unsupported qcow2 feature(s): time travel';
    expect(() => parse(1n << 40n)).toThrow(refusal('unsupported', message));
  });

  test('without a name are refused as hexadecimal bits', () => {
    const message = 'Unsupported qcow2 feature(s): Unknown incompatible feature: 8000020000000000';
    expect(() => parse((1n << 41n) | (1n << 63n))).toThrow(refusal('unsupported', message));
  });

  test('are named as far as names are known', () => {
    const message =
      'Unsupported qcow2 feature(s): time travel, Unknown incompatible feature: 20000000000';
    expect(() => parse((1n << 40n) | (1n << 41n))).toThrow(refusal('unsupported', message));
    const bare = 'Unsupported qcow2 feature(s): Unknown incompatible feature: 10000000000';
    expect(() => parse(1n << 40n, SOUND)).toThrow(refusal('unsupported', bare));
  });

  test('known ones beside them are not among the words', () => {
    const message = 'Unsupported qcow2 feature(s): time travel';
    const bits = (1n << 40n) | INCOMPATIBLE.dirty;
    expect(() => parse(bits)).toThrow(refusal('unsupported', message));
  });
});

describe('the compression type', () => {
  const withType = (type: number, incompatibleFeatures: bigint) => {
    const bytes = headerWith({ incompatibleFeatures });
    bytes[104] = type;
    return () => parseHeader(bytes);
  };

  test('other than zlib needs its feature bit', () => {
    const message = 'qcow2: Compression type incompatible feature bit must be set';
    expect(withType(1, 0n)).toThrow(refusal('corrupt', message));
  });

  test('zlib must not have it', () => {
    const message = 'qcow2: Compression type incompatible feature bit must not be set';
    expect(withType(0, INCOMPATIBLE.compressionType)).toThrow(refusal('corrupt', message));
  });

  test('that nobody knows is not supported', () => {
    const unknown = refusal('unsupported', 'qcow2: unknown compression type: 2');
    expect(withType(2, INCOMPATIBLE.compressionType)).toThrow(unknown);
  });

  test('1 is zstd', () => {
    expect(withType(1, INCOMPATIBLE.compressionType)().compressionType).toBe('zstd');
  });
});

describe('the backing file name', () => {
  const named = (backingFileOffset: number, backingFileSize: number, clusterBits = 9) => {
    const tables = { l1TableOffset: 0, refcountTableOffset: 0 };
    const bytes = new Uint8Array(2 ** clusterBits).fill(0x61, 400);
    const fields = { backingFileOffset, backingFileSize, clusterBits, ...tables };
    bytes.set(headerWith(fields).subarray(0, 400));
    return () => parseHeader(bytes).backingFile;
  };
  const tooLong = refusal('corrupt', 'Backing file name too long');

  test('may reach to the end of the header cluster, not past it', () => {
    expect(named(500, 12)()).toBe('a'.repeat(12));
    expect(named(500, 13)).toThrow(tooLong);
    expect(named(500, 0xffff_ffff)).toThrow(tooLong);
  });

  test('has 1023 bytes at most', () => {
    expect(named(400, 1023, 12)()).toBe('a'.repeat(1023));
    expect(named(400, 1024, 12)).toThrow(tooLong);
  });

  test('ends the extensions: one that reaches into it is too large', () => {
    const bytes = headerWith({ backingFileOffset: 120, backingFileSize: 4 });
    new DataView(bytes.buffer).setUint32(112, 0xabcd);
    expect(() => parseHeader(bytes)).not.toThrow();
    new DataView(bytes.buffer).setUint32(116, 1);
    const message = 'Header extension too large';
    expect(() => parseHeader(bytes)).toThrow(refusal('corrupt', message));
  });
});
