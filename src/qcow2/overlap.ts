// Where the structures of an image lie, and so what must not be written as if it were something
// else, whatever refcounts and table entries of a damaged image say. Names, order and words are
// QEMU's, as are the sets of structures that can be asked for.

import type { Storage, WriteKind } from '../io/storage.ts';
import { divideUp } from '../units.ts';
import { ClusterMarks } from './cluster-marks.ts';
import { CorruptionError, hex } from './corruption.ts';
import type { Geometry } from './geometry.ts';
import { clusterOffset } from './l2-entry.ts';
import type { Snapshot } from './snapshots.ts';

/** As the options call them: `overlap-check.main-header` and so on. */
export const STRUCTURE_KINDS = [
  'main-header',
  'active-l1',
  'active-l2',
  'refcount-table',
  'refcount-block',
  'snapshot-table',
  'inactive-l1',
  'inactive-l2',
  'bitmap-directory',
] as const;
export type StructureKind = (typeof STRUCTURE_KINDS)[number];

/** Those that are one piece each. */
type PieceKind = 'active-l1' | 'refcount-table' | 'snapshot-table' | 'bitmap-directory';

/** Those that are many clusters, each marked by itself. */
const MARKS = {
  'active-l2': 1,
  'refcount-block': 2,
  'inactive-l1': 4,
  'inactive-l2': 8,
} as const;
type MarkedKind = keyof typeof MARKS;

const WORDS: Readonly<Record<StructureKind, string>> = {
  'main-header': 'qcow2_header',
  'active-l1': 'active L1 table',
  'active-l2': 'active L2 table',
  'refcount-table': 'refcount table',
  'refcount-block': 'refcount block',
  'snapshot-table': 'snapshot table',
  'inactive-l1': 'inactive L1 table',
  'inactive-l2': 'inactive L2 table',
  'bitmap-directory': 'bitmap directory',
};

const CONSTANT: readonly StructureKind[] = [
  'main-header',
  'active-l1',
  'refcount-table',
  'snapshot-table',
  'bitmap-directory',
];
const CACHED: readonly StructureKind[] = [
  ...CONSTANT,
  'active-l2',
  'refcount-block',
  'inactive-l1',
];

/** What each value of the option `overlap-check` stands for. */
export const OVERLAP_TEMPLATES = {
  none: [],
  constant: CONSTANT,
  cached: CACHED,
  all: STRUCTURE_KINDS,
} as const satisfies Record<string, readonly StructureKind[]>;

/** What is looked for where nobody says otherwise. */
export const GUARDED: ReadonlySet<StructureKind> = new Set(CACHED);

/** What a write carries: its name in messages, and the structure that it may therefore hit. */
interface Claim {
  readonly words: string;
  readonly own: StructureKind | null;
}

const CLAIMS: Readonly<Record<WriteKind, Claim>> = {
  data: { words: "the guest's data", own: null },
  header: { words: 'the header', own: 'main-header' },
  l1: { words: 'an L1 table', own: 'active-l1' },
  l2: { words: 'an L2 table', own: 'active-l2' },
  'refcount-table': { words: 'a refcount table', own: 'refcount-table' },
  'refcount-block': { words: 'a refcount block', own: 'refcount-block' },
  // A new one never takes the place of the old.
  'snapshot-table': { words: 'a snapshot table', own: null },
  bitmap: { words: 'a bitmap', own: null },
  'bitmap-directory': { words: 'a bitmap directory', own: 'bitmap-directory' },
};

/** Clusters that the refcounts call free, or would, whatever comes to lie there. */
const FREE = { taken: 'a new cluster', freed: 'free space' } as const;

export interface Piece {
  readonly offset: number;
  readonly length: number;
}

export class Structures {
  readonly #storage: Storage;
  readonly #clusterSize: number;
  readonly #guarded: ReadonlySet<StructureKind>;
  readonly #pieces = new Map<PieceKind, Piece>();
  readonly #marks = new ClusterMarks();

  /** Knows of nothing but the header yet. `guarded`: what is looked for. */
  constructor(storage: Storage, geometry: Geometry, guarded: ReadonlySet<StructureKind>) {
    this.#storage = storage;
    this.#clusterSize = geometry.clusterSize;
    this.#guarded = guarded;
  }

  /** A structure in one piece lies there from now on; in no place where it has no length. */
  place(kind: PieceKind, { offset, length }: Piece): void {
    this.#pieces.set(kind, { offset, length });
  }

  add(kind: MarkedKind, offset: number): void {
    this.#marks.add(offset / this.#clusterSize, MARKS[kind]);
  }

  drop(kind: MarkedKind, offset: number): void {
    this.#marks.drop(offset / this.#clusterSize, MARKS[kind]);
  }

  dropAll(kind: MarkedKind): void {
    this.#marks.dropAll(MARKS[kind]);
  }

  /** All that the entries of an L1 or refcount table point to; its user finds what is not aligned. */
  addAll(kind: MarkedKind, table: DataView): void {
    for (let at = 0; at < table.byteLength; at += 8) {
      const high = table.getUint32(at);
      const low = table.getUint32(at + 4);
      if (high === 0 && low === 0) continue;
      const offset = clusterOffset(high, low);
      if (offset !== 0) this.add(kind, offset - (offset % this.#clusterSize));
    }
  }

  /** The L1 tables of the snapshots. Throws `corrupt` where the file could not hold them. */
  addInactiveL1(snapshots: readonly Snapshot[]): void {
    let left = divideUp(this.#storage.size, this.#clusterSize);
    for (const { l1TableOffset, l1Size } of snapshots) {
      const start = l1TableOffset - (l1TableOffset % this.#clusterSize);
      // Of one that claims more than there is, what is there is kept from writes all the same.
      const inFile = divideUp(Math.max(0, this.#storage.size - start), this.#clusterSize);
      const count = Math.min(divideUp(l1Size * 8, this.#clusterSize), inFile);
      left -= count;
      if (left < 0) {
        const words = 'The L1 tables of the snapshots have no room in the file';
        throw new CorruptionError(this.#storage, words);
      }
      for (let i = 0; i < count; i++) this.add('inactive-l1', start + i * this.#clusterSize);
    }
  }

  /** Throws `corrupt` where a write of that kind would hit a structure that it is not meant for. */
  checkWrite(offset: number, length: number, kind: WriteKind): void {
    if (length > 0) this.#check(offset, length, CLAIMS[kind]);
  }

  /**
   * The same for clusters that are about to be taken as free ones, or to become free. That of the
   * header is never one of them, whatever is looked for.
   */
  checkFree(offset: number, clusters: number, what: keyof typeof FREE): void {
    const claim = { words: FREE[what], own: null };
    if (offset < this.#clusterSize) throw this.#overlap('main-header', offset, claim);
    this.#check(offset, clusters * this.#clusterSize, claim);
  }

  #check(offset: number, length: number, claim: Claim): void {
    const found = this.#at(offset, length, claim.own);
    if (found !== undefined) throw this.#overlap(found, offset, claim);
  }

  #overlap(found: StructureKind, offset: number, { words }: Claim): CorruptionError {
    return new CorruptionError(
      this.#storage,
      `Preventing invalid write on metadata (overlaps with ${WORDS[found]})`,
      { about: `${words} would go to offset ${hex(offset)}` },
    );
  }

  /** The first in QEMU's order that a stretch hits, whole clusters taken. */
  #at(offset: number, length: number, own: StructureKind | null): StructureKind | undefined {
    const first = Math.floor(offset / this.#clusterSize);
    const end = divideUp(offset + length, this.#clusterSize);
    const looksFor = (kind: StructureKind) => kind !== own && this.#guarded.has(kind);
    if (first === 0 && looksFor('main-header')) return 'main-header';
    const hits = (kind: PieceKind): boolean => {
      const piece = this.#pieces.get(kind);
      if (piece === undefined || piece.length === 0 || !looksFor(kind)) return false;
      const { offset: start, length: bytes } = piece;
      return start < end * this.#clusterSize && first * this.#clusterSize < start + bytes;
    };
    for (const kind of ['active-l1', 'refcount-table', 'snapshot-table'] as const) {
      if (hits(kind)) return kind;
    }
    let marks = 0;
    for (let cluster = first; cluster < end; cluster++) marks |= this.#marks.at(cluster);
    if (marks !== 0) {
      for (const kind of ['inactive-l1', 'active-l2', 'refcount-block', 'inactive-l2'] as const) {
        if (marks & MARKS[kind] && looksFor(kind)) return kind;
      }
    }
    return hits('bitmap-directory') ? 'bitmap-directory' : undefined;
  }
}
