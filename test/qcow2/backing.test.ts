// Changing the backing file of an image: whatever was written when the machine stopped, the header
// names the old backing file or the new one.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { WriteKind } from '../../src/io/storage.ts';
import { checkBackingFits, removeBacking, rewriteBacking } from '../../src/qcow2/backing.ts';
import {
  encodeFeatureNames,
  type HeaderExtension,
  parseFeatureNames,
} from '../../src/qcow2/extensions.ts';
import { encodeHeader, type Header, parseHeader } from '../../src/qcow2/header.ts';
import { EXTENSION, FEATURE_NAMES, MAGIC } from '../../src/qcow2/spec.ts';

const UNKNOWN = 0x1234_5678;

interface Shape {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly name: string | null;
  readonly format: string | null;
  readonly featureNames: boolean;
  readonly unknownBytes: number;
}

function headerOf(shape: Shape): Uint8Array {
  const extensions: HeaderExtension[] = [];
  if (shape.format !== null) {
    extensions.push({
      type: EXTENSION.backingFormat,
      data: new TextEncoder().encode(shape.format),
    });
  }
  if (shape.featureNames) {
    const data = encodeFeatureNames(FEATURE_NAMES);
    extensions.push({ type: EXTENSION.featureNameTable, data });
  }
  if (shape.unknownBytes > 0) {
    extensions.push({ type: UNKNOWN, data: new Uint8Array(shape.unknownBytes).fill(7) });
  }
  const clusterSize = 2 ** shape.clusterBits;
  return encodeHeader({
    magic: MAGIC,
    version: shape.version,
    backingFileSize: 0,
    clusterBits: shape.clusterBits,
    size: 1024 * 1024,
    cryptMethod: 0,
    l1Size: 1024,
    l1TableOffset: 3 * clusterSize,
    refcountTableOffset: clusterSize,
    refcountTableClusters: 1,
    nbSnapshots: 0,
    snapshotsOffset: 0,
    incompatibleFeatures: 0n,
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    refcountOrder: 4,
    headerLength: shape.version === 2 ? 72 : 112,
    compressionType: 'zlib',
    extensions,
    backingFile: shape.name,
  });
}

/** Notes what the file holds after each write, also when only some of its sectors arrived. */
class Recorder extends MemoryStorage {
  readonly states: Uint8Array[] = [];

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    const before = this.bytes();
    await super.write(offset, source, kind);
    const after = this.bytes();
    for (let sector = Math.ceil((offset + 1) / 512) * 512; sector < offset + source.length; ) {
      // Torn: the sectors up to here are new, and the other way round.
      this.states.push(join(after, before, sector), join(before, after, sector));
      sector += 512;
    }
    this.states.push(after);
  }
}

function join(head: Uint8Array, tail: Uint8Array, at: number): Uint8Array {
  const joined = new Uint8Array(Math.max(head.length, tail.length));
  joined.set(tail);
  joined.set(head.subarray(0, at));
  return joined;
}

/** Undefined where there is no room for it in one cluster. */
function fits(shape: Shape): Uint8Array | undefined {
  try {
    return headerOf(shape);
  } catch {
    return undefined;
  }
}

/** What must not change: all but the backing file. */
function restOf({ extensions }: Header): readonly HeaderExtension[] {
  return extensions.filter(({ type }) => type !== EXTENSION.backingFormat);
}

const isNames = ({ type }: HeaderExtension) => type === EXTENSION.featureNameTable;

const names = fc.oneof(
  fc.stringMatching(/^[a-z./-]{1,40}$/),
  fc.stringMatching(/^[a-z./-]{200,700}$/),
);
const shapes: fc.Arbitrary<Shape> = fc.record({
  version: fc.constantFrom<2 | 3>(2, 3),
  clusterBits: fc.constantFrom(9, 10, 12, 16),
  name: fc.option(names),
  format: fc.option(fc.constantFrom('raw', 'qcow2', 'host_device')),
  featureNames: fc.boolean(),
  unknownBytes: fc.constantFrom(0, 0, 8, 100, 400),
});

test('every state on the way names the old backing file or the new one, and keeps the rest', () =>
  fc.assert(
    fc.asyncProperty(
      shapes,
      names,
      fc.constantFrom('raw', 'qcow2'),
      async (shape, name, format) => {
        const bytes = fits(shape);
        fc.pre(bytes !== undefined);
        const cluster = new Uint8Array(2 ** shape.clusterBits);
        cluster.set(bytes);
        const old = parseHeader(cluster);
        const storage = new Recorder(cluster);
        const refused = await checkBackingFits(storage, { name, format }).catch(
          (error: unknown) => error,
        );
        if (refused !== undefined) {
          expect(refused).toBeInstanceOf(ImageError);
          return;
        }

        await rewriteBacking(storage, { name, format });

        const last = parseHeader(storage.bytes());
        expect([last.backingFile, last.backingFormat]).toEqual([name, format]);
        for (const state of storage.states) {
          const header = parseHeader(state);
          const names = [header.backingFile, header.backingFormat];
          expect([
            [old.backingFile, old.backingFormat],
            [name, format],
          ]).toContainEqual(names);
          // The feature names may be gone for a while.
          const rest = restOf(header);
          const hasNames = rest.some(isNames);
          expect(rest).toEqual(restOf(old).filter((each) => hasNames || !isNames(each)));
          expect(header.size).toBe(old.size);
        }
        expect(restOf(last)).toEqual(restOf(old));
      },
    ),
    { numRuns: 2000 },
  ));

test('taken away, it is gone with one write that keeps the rest', () =>
  fc.assert(
    fc.asyncProperty(shapes, async (shape) => {
      const bytes = fits(shape);
      fc.pre(bytes !== undefined);
      const cluster = new Uint8Array(2 ** shape.clusterBits);
      cluster.set(bytes);
      const old = parseHeader(cluster);
      const storage = new Recorder(cluster);
      await removeBacking(storage);
      expect(storage.states.length).toBe(1);
      const header = parseHeader(storage.bytes());
      expect(header.backingFile).toBe(null);
      expect(restOf(header)).toEqual(restOf(old));
      expect({ ...header, extensions: [] }).toMatchObject({ size: old.size, l1Size: old.l1Size });
    }),
    { numRuns: 1000 },
  ));

test('extensions behind the first sector stay, though one more comes before them', async () => {
  const cluster = new Uint8Array(65536);
  const shape = { version: 3, clusterBits: 16, name: null, format: null } as const;
  cluster.set(headerOf({ ...shape, featureNames: true, unknownBytes: 24 }));
  expect(parseHeader(cluster).extensionsEnd).toBeGreaterThan(512);
  const storage = new MemoryStorage(cluster);
  await rewriteBacking(storage, { name: 'new.qcow2', format: 'qcow2' });
  const { backingFile, backingFormat, extensions } = parseHeader(storage.bytes());
  expect([backingFile, backingFormat]).toEqual(['new.qcow2', 'qcow2']);
  expect(extensions.map(({ type }) => type)).toEqual([
    EXTENSION.backingFormat,
    EXTENSION.featureNameTable,
    UNKNOWN,
  ]);
});

test('a header as QEMU writes it takes any name of another file', async () => {
  const shape = { version: 3, clusterBits: 16, featureNames: true, unknownBytes: 0 } as const;
  for (const format of [null, 'qcow2']) {
    for (const length of [1, 300, 1023]) {
      const cluster = new Uint8Array(65536);
      cluster.set(headerOf({ ...shape, format, name: 'old.qcow2' }));
      const storage = new MemoryStorage(cluster);
      await rewriteBacking(storage, { name: 'x'.repeat(length), format: 'qcow2' });
      const header = parseHeader(storage.bytes());
      expect(header.backingFile).toBe('x'.repeat(length));
      const table = header.extensions.find(({ type }) => type === EXTENSION.featureNameTable);
      expect(parseFeatureNames(table?.data ?? new Uint8Array())).toEqual(FEATURE_NAMES);
    }
  }
});

test('a name past 1023 bytes is refused, nothing written', async () => {
  const cluster = new Uint8Array(65536);
  const shape = { version: 3, clusterBits: 16, featureNames: true, unknownBytes: 0 } as const;
  cluster.set(headerOf({ ...shape, format: 'qcow2', name: 'old.qcow2' }));
  const storage = new Recorder(cluster);
  await expect(
    rewriteBacking(storage, { name: 'x'.repeat(1024), format: 'qcow2' }),
  ).rejects.toThrow(/too long/);
  expect(storage.states).toEqual([]);
});
