// Random chains as plain data that fast-check can shrink: what a chain is made of, never how it is
// made. The generator leaves out only what QEMU itself refuses to build.

import fc from 'fast-check';

export const SECTOR = 512;

/** Positions and lengths are in sectors. */
export type Operation =
  | {
      readonly kind: 'write' | 'compressed';
      readonly at: number;
      readonly count: number;
      readonly pattern: Pattern;
    }
  | { readonly kind: 'zero'; readonly at: number; readonly count: number; readonly unmap: boolean }
  | { readonly kind: 'discard'; readonly at: number; readonly count: number }
  | SnapshotOperation;

/** Takes a snapshot, goes back to the last one, or deletes it. */
export interface SnapshotOperation {
  readonly kind: 'snapshot' | 'revert' | 'unsnapshot';
  /** Done by us, not by QEMU. */
  readonly ours: boolean;
}

/** Plain: one byte all over, 0 too. Else bytes that differ within a sector and between sectors. */
export interface Pattern {
  readonly seed: number;
  readonly plain: boolean;
}

export interface LayerSpec {
  readonly format: 'qcow2' | 'raw';
  readonly sectors: number;
  readonly clusterSize: number;
  readonly compat: '0.10' | '1.1';
  readonly refcountBits: number;
  readonly zstd: boolean;
  readonly lazyRefcounts: boolean;
  /** The data lies in a file of its own; `raw` (bases only): one that is valid without the map. */
  readonly dataFile: 'none' | 'plain' | 'raw';
  readonly extendedL2: boolean;
  /**
   * All clusters taken when the image is created. They read as zeros: bases only, but where they
   * have subclusters, through which what lies below is seen.
   */
  readonly preallocated: boolean;
  readonly operations: readonly Operation[];
}

export interface ChainSpec {
  /** Base first. */
  readonly layers: readonly LayerSpec[];
}

const clusterSizes = fc.constantFrom(512, 512, 1024, 4096, 4096, 65536, 65536, 2 * 1024 * 1024);
const sizes = fc.oneof(
  { weight: 3, arbitrary: fc.constant(4096) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 64 }) },
  { weight: 3, arbitrary: fc.integer({ min: 64, max: 6000 }) },
);

const wish = fc.record({
  kind: fc.constantFrom<Operation['kind']>(
    ...['write' as const, 'write' as const, 'write' as const, 'write' as const],
    ...['zero' as const, 'zero' as const, 'discard' as const],
    ...['compressed' as const, 'compressed' as const],
    ...['snapshot' as const, 'snapshot' as const, 'revert' as const, 'unsnapshot' as const],
  ),
  /** A share of the disk, so that it shrinks together with the disk's size. */
  at: fc.double({ min: 0, max: 0.9999, noNaN: true }),
  length: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 700 })),
  pattern: fc.record({ seed: fc.nat(249), plain: fc.boolean() }),
  unmap: fc.boolean(),
  ours: fc.boolean(),
});

const layerWish = fc.record({
  isRaw: oneIn(4),
  sectors: sizes,
  clusterSize: clusterSizes,
  isOld: oneIn(4),
  refcountBits: fc.constantFrom(16, 16, 16, 1, 2, 4, 8, 32, 64),
  zstd: fc.boolean(),
  lazyRefcounts: oneIn(8),
  dataFile: fc.constantFrom<LayerSpec['dataFile']>(
    ...['none' as const, 'none' as const, 'none' as const, 'none' as const],
    ...['none' as const, 'none' as const, 'plain' as const, 'raw' as const],
  ),
  extendedL2: oneIn(3),
  preallocated: oneIn(8),
  operations: fc.array(wish, { maxLength: 12 }),
});

function oneIn(count: number): fc.Arbitrary<boolean> {
  return fc.nat(count - 1).map((value) => value === count - 1);
}

type Wish = typeof wish extends fc.Arbitrary<infer T> ? T : never;
type LayerWish = typeof layerWish extends fc.Arbitrary<infer T> ? T : never;

/** Depth 1 to 5 overlays over a base. */
export const chainSpecs: fc.Arbitrary<ChainSpec> = fc
  .array(layerWish, { minLength: 2, maxLength: 6 })
  .map((layers) => ({ layers: layers.map((layer, i) => layerSpec(layer, i === 0)) }));

/** For QEMU run elsewhere: it looks for data files in its own directory. */
export const chainSpecsInOneFile: fc.Arbitrary<ChainSpec> = chainSpecs.map(({ layers }) => ({
  layers: layers.map((layer) => ({ ...layer, dataFile: 'none' as const })),
}));

function layerSpec(layer: LayerWish, isBase: boolean): LayerSpec {
  const format = isBase && layer.isRaw ? 'raw' : 'qcow2';
  const compat = layer.isOld ? '0.10' : '1.1';
  const isNew = format === 'qcow2' && compat === '1.1';
  const extendedL2 = isNew && layer.extendedL2;
  const { clusterSize } = layer;
  const shape = {
    format,
    compat,
    sectors: layer.sectors,
    // It takes clusters of 16 KiB; smaller ones are made 32 times as large, the subclusters as they.
    clusterSize: extendedL2 && clusterSize < 16384 ? clusterSize * 32 : clusterSize,
    extendedL2,
    refcountBits: isNew ? layer.refcountBits : 16,
    zstd: isNew && layer.zstd,
    lazyRefcounts: isNew && layer.lazyRefcounts,
    dataFile: isNew ? dataFileOf(layer, isBase) : 'none',
    preallocated: (isBase || extendedL2) && format === 'qcow2' && layer.preallocated,
  } as const;
  const possible = new PossibleOperations(shape);
  return { ...shape, operations: layer.operations.flatMap((each) => possible.from(each)) };
}

function dataFileOf({ dataFile }: LayerWish, isBase: boolean): LayerSpec['dataFile'] {
  return dataFile === 'raw' && !isBase ? 'plain' : dataFile;
}

/** Turns what the generator wishes for into what QEMU does on such a layer. */
class PossibleOperations {
  readonly #shape: Omit<LayerSpec, 'operations'>;
  readonly #touched = new Set<number>();
  readonly #compressedAt = new Set<number>();
  /** A compressed cluster may have been let go. */
  #mayReuse = false;
  #snapshots = 0;
  /** Those that are still there. */
  #left = 0;
  #compressed = 0;

  constructor(shape: Omit<LayerSpec, 'operations'>) {
    this.#shape = shape;
  }

  from({ kind, at: share, length, pattern, unmap, ours }: Wish): readonly Operation[] {
    const at = Math.floor(share * this.#shape.sectors);
    const count = Math.min(length, this.#shape.sectors - at);
    if (kind === 'snapshot') return this.#snapshot(ours);
    if (kind === 'revert' || kind === 'unsnapshot') return this.#toLast(kind, ours);
    if (kind === 'compressed') return this.#compress(at, pattern);
    this.#touch(at, count);
    if (kind === 'write') return [{ kind, at, count, pattern }];
    return [kind === 'zero' ? { kind, at, count, unmap } : { kind, at, count }];
  }

  #touch(at: number, count: number): void {
    const perCluster = this.#shape.clusterSize / SECTOR;
    const first = Math.floor(at / perCluster);
    for (let i = first; i * perCluster < at + count; i++) {
      this.#touched.add(i);
      this.#mayReuse ||= this.#compressedAt.has(i);
    }
  }

  /**
   * One cluster (or what the disk has of it), and only where nothing was written before. QEMU goes on
   * compressing into a host cluster that it has let go, and that may be another's by then.
   */
  #compress(near: number, pattern: Pattern): readonly Operation[] {
    const { format, clusterSize, sectors, preallocated, dataFile } = this.#shape;
    if (dataFile !== 'none' || this.#mayReuse) return [];
    const perCluster = clusterSize / SECTOR;
    const cluster = Math.floor(near / perCluster);
    if (format === 'raw' || preallocated || this.#touched.has(cluster)) return [];
    const at = cluster * perCluster;
    const count = Math.min(perCluster, sectors - at);
    this.#touch(at, count);
    this.#compressedAt.add(cluster);
    this.#compressed++;
    return [{ kind: 'compressed', at, count, pattern }];
  }

  get #references(): number {
    return Math.max(1, this.#compressed) * (this.#snapshots + 2);
  }

  /**
   * Each snapshot is one more reference to everything, and compressed clusters may share a host
   * cluster: all references must fit the refcount.
   */
  #snapshot(ours: boolean): readonly Operation[] {
    const { format, refcountBits, dataFile } = this.#shape;
    const fits = this.#references < 2 ** refcountBits;
    if (format === 'raw' || dataFile !== 'none' || this.#snapshots === 2 || !fits) return [];
    this.#snapshots++;
    this.#left++;
    return [{ kind: 'snapshot', ours }];
  }

  #toLast(kind: 'revert' | 'unsnapshot', ours: boolean): readonly Operation[] {
    if (this.#left === 0) return [];
    if (kind === 'unsnapshot') this.#left--;
    // QEMU counts what it goes back to before it lets go of what there was.
    const fits = this.#references < 2 ** this.#shape.refcountBits;
    return [{ kind, ours: ours || (kind === 'revert' && !fits) }];
  }
}
