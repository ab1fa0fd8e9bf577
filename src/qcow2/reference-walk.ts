// The walk over L1 and L2 tables, of the active state or of a snapshot, that counts what they point
// to. A table that very many entries share is told about only so often, and then counted at once:
// a hostile image must not keep us busy for ever.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { viewOf } from './fields.ts';
import type { Geometry } from './geometry.ts';
import type { Header } from './header.ts';
import { Holes } from './holes.ts';
import { clusterOffset, decodeCompressed } from './l2-entry.ts';
import { OffsetCounts } from './offset-counts.ts';
import type { ReferenceCounts } from './reference-counts.ts';
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  INCOMPATIBLE,
  OFFSET_HIGH,
  OFFSET_LOW,
  ZERO_LOW,
} from './spec.ts';
import { type ScannedTable, TableWindow } from './table-window.ts';
import { WalkBudget } from './walk-budget.ts';

/** So often one L2 table is walked by itself. */
const WALKS_OF_ONE_TABLE = 64;
/** Reserved bits of L2 entries: 1..8 and 56..61. Version 2 has no zero flag; QEMU lets it pass. */
const L2_RESERVED = { high: 0x3f00_0000, low: 0x1fe } as const;
/** Subcluster bitmaps: "allocated" is the low half, "reads as zeros" the high one. */
const BITMAP_ALLOCATED = 4;

interface Image {
  readonly storage: Storage;
  readonly header: Header;
  readonly geometry: Geometry;
}

/** What is met on the way. */
export interface ReferenceVisitor {
  /** A structure reaches past the end of the file by a cluster or more; it is not counted. */
  pastEnd?(offset: number | bigint, length: number): void;
  /** Something that makes no sense, in the words of `qemu-img check`. */
  broken?(message: string): void;
  /** More references than a refcount can say: it stays at the most. */
  overflow?(cluster: number, times: number): void;
  /**
   * A cluster that the active state holds, and the one before it in its L2 table (null: none);
   * `host` is null where it is compressed.
   */
  cluster?(host: number | null, previous: number | null, times: number): void;
  /** An L1 entry, of the active state or of a snapshot, points to this L2 table. */
  l2Table?(offset: number): void;
  /**
   * A cluster that was set aside for zeros is not aligned, in this L2 table: takes the entry for
   * zeros alone. Without this it is `broken`.
   */
  misplacedZeros?(host: number, table: number): void;
  /** What is wrong with an entry of the refcount table. Without this it is `broken`. */
  badBlock?(message: string): void;
  /** A refcount block past the end of the file. Without this it is `broken`. */
  blockOutside?(index: number, cluster: number): void;
  /** A cluster that holds a refcount block. */
  refcountBlock?(cluster: number): void;
  /** What the table of an inconsistent bitmap holds is nonsense. Without this it is thrown. */
  lostBitmap?(error: ImageError): void;
  /** Something that was told often enough, found so many times more. */
  repeated?(times: number): void;
}

/** A walk under way: whom it tells, and how many references each pointer stands for. */
interface Teller extends ReferenceVisitor {
  readonly times: number;
  readonly isActive: boolean;
}

/** Offsets of L2 tables that are no holes. */
class Met {
  /** How many entries point there. */
  readonly times = new OffsetCounts();
  /** For how many of them it was walked but for the first, which costs nothing: most have no other. */
  readonly again = new OffsetCounts();
}

export class MapWalk {
  readonly #image: Image;
  readonly #counts: ReferenceCounts;
  readonly #visitor: ReferenceVisitor;
  readonly #hasDataFile: boolean;
  readonly #window: TableWindow;
  /** For a table that has to be read by itself. */
  readonly #table: Uint8Array;
  /** Of the table that is looked at. */
  #view: DataView;
  readonly #active = new Met();
  readonly #inSnapshots = new Met();
  readonly #budget = new WalkBudget();

  constructor(image: Image, counts: ReferenceCounts, visitor: ReferenceVisitor) {
    this.#image = image;
    this.#counts = counts;
    this.#visitor = visitor;
    const { incompatibleFeatures } = image.header;
    this.#hasDataFile = (incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n;
    this.#window = new TableWindow(image.storage, image.geometry.clusterSize);
    this.#table = new Uint8Array(image.geometry.clusterSize);
    this.#view = viewOf(this.#table);
  }

  /** Counts an L1 table and all below it. */
  async l1(offset: number, entries: number, isActive: boolean): Promise<void> {
    if (entries === 0) return;
    const { storage, geometry } = this.#image;
    const { clusterSize } = geometry;
    const teller: Teller = { ...this.#visitor, times: 1, isActive };
    this.#add(offset, entries * 8, teller);
    const holes = new Holes(storage);
    const met = isActive ? this.#active : this.#inSnapshots;
    const there = entriesInFile(storage, offset, entries);
    const l1 = viewOf(await readTable(storage, offset, there * 8));
    for (let index = 0; index < there; index++) {
      const high = l1.getUint32(index * 8);
      const low = l1.getUint32(index * 8 + 4);
      if (high === 0 && low === 0) continue;
      if (high & ~OFFSET_HIGH & ~COPIED_HIGH || low & ~OFFSET_LOW) {
        teller.broken?.(`ERROR found L1 entry with reserved bits set: ${entryHex(high, low)}`);
      }
      const l2 = clusterOffset(high, low);
      this.#add(l2, clusterSize, teller);
      if (l2 % clusterSize !== 0) {
        teller.broken?.(
          `ERROR l2_offset=${l2.toString(16)}: Table is not cluster aligned; L1 entry corrupted`,
        );
      }
      teller.l2Table?.(l2);
      // Waiting for what is known takes longer than all the rest, millions of times.
      const ahead = this.#window.at(l2);
      if (ahead === undefined) {
        // There is nothing in a hole, and nothing to remember.
        const isHole = holes.has(l2, clusterSize);
        if (isHole === true || (isHole !== false && (await isHole))) continue;
      }
      const times = met.times.add(l2);
      if (!this.#mayWalk(l2, times)) continue;
      if (!this.#isFirst(l2, times)) met.again.add(l2);
      if (ahead !== undefined) this.#look(ahead, teller);
      else await this.#l2(l2, teller);
    }
  }

  /** Whether it is walked by itself, met for the `times`th time; else `finish` does it. */
  #mayWalk(l2: number, times: number): boolean {
    const { storage, geometry } = this.#image;
    const { clusterSize, l2EntryBytes } = geometry;
    if (this.#isFirst(l2, times)) return true;
    if (times > WALKS_OF_ONE_TABLE) return false;
    if (this.#budget.spend(clusterSize / l2EntryBytes)) return true;
    if (times > 1) return false;
    throw new ImageError(
      'unsupported',
      `${storage.filename}: too many L2 tables lie across each other to be checked`,
      { errno: 'EFBIG' },
    );
  }

  #isFirst(l2: number, times: number): boolean {
    return times === 1 && l2 % this.#image.geometry.clusterSize === 0;
  }

  /** Counts the tables that were met too often to be walked each time. */
  async finish(): Promise<void> {
    for (const [met, isActive] of [
      [this.#active, true],
      [this.#inSnapshots, false],
    ] as const) {
      for (const [offset, pointers] of met.times) {
        const walks = met.again.get(offset) + (this.#isFirst(offset, 1) ? 1 : 0);
        const times = pointers - walks;
        if (times > 0) await this.#l2(offset, this.#silent(times, isActive));
      }
    }
  }

  #silent(times: number, isActive: boolean): Teller {
    const { cluster, overflow, repeated, misplacedZeros } = this.#visitor;
    const found = () => repeated?.(times);
    return {
      times,
      isActive,
      broken: found,
      pastEnd: found,
      ...(overflow && { overflow }),
      ...(cluster && { cluster }),
      ...(misplacedZeros && { misplacedZeros }),
    };
  }

  #add(offset: number, length: number, teller: Teller, exact: number | bigint = offset): void {
    const isInside = this.#counts.add(offset, length, teller.times, teller.overflow);
    if (!isInside) teller.pastEnd?.(exact, length);
  }

  async #l2(offset: number, teller: Teller): Promise<void> {
    const ahead = this.#window.at(offset) ?? (await this.#window.fetch(offset));
    if (ahead !== undefined) return this.#look(ahead, teller);
    await this.#image.storage.read(offset, this.#table);
    this.#look({ offset, bytes: this.#table, view: viewOf(this.#table) }, teller);
  }

  #look({ offset, view }: ScannedTable, teller: Teller): void {
    const { clusterSize, l2EntryBytes } = this.#image.geometry;
    this.#view = view;
    const isPlain =
      l2EntryBytes === 8 && !this.#hasDataFile && teller.times === 1 && !teller.cluster;
    let last: number | null = null;
    for (let at = 0; at < clusterSize; at += l2EntryBytes) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if (isPlain) {
        if (high === 0 && low === 0) continue;
        // By far most entries are clusters of data with nothing wrong about them.
        const plain = (high & ~COPIED_HIGH & ~OFFSET_HIGH) === 0 && low % clusterSize === 0;
        const host = (high & OFFSET_HIGH) * 0x1_0000_0000 + low;
        if (plain && host !== 0 && this.#counts.addOne(host / clusterSize)) continue;
      }
      if (high & COMPRESSED_HIGH) {
        this.#compressed(high, low, at, teller);
        continue;
      }
      if (high & L2_RESERVED.high || low & L2_RESERVED.low) {
        teller.broken?.(`ERROR found l2 entry with reserved bits set: ${entryHex(high, low)}`);
      }
      const host = clusterOffset(high, low);
      if (host === 0 && !this.#isAllocatedAtZero(high, low)) {
        if (l2EntryBytes === 16 && view.getUint32(at + 8 + BITMAP_ALLOCATED) !== 0) {
          teller.broken?.('ERROR: Unallocated cluster has non-zero subcluster allocation map');
        }
        continue;
      }
      if (!this.#standard(host, low, at, offset, teller)) continue;
      if (teller.isActive) teller.cluster?.(host, last, teller.times);
      last = host;
    }
  }

  /** With an external data file the first cluster may be allocated: COPIED says so. */
  #isAllocatedAtZero(high: number, low: number): boolean {
    if (!this.#hasDataFile || !(high & COPIED_HIGH)) return false;
    return this.#image.geometry.l2EntryBytes === 16 || !(low & ZERO_LOW);
  }

  /** False for an entry that is to be zeros alone. */
  #standard(host: number, low: number, at: number, table: number, teller: Teller): boolean {
    const { clusterSize, l2EntryBytes } = this.#image.geometry;
    let hasData = !(low & ZERO_LOW);
    if (l2EntryBytes === 16) {
      const zeroed = this.#view.getUint32(at + 8);
      const allocated = this.#view.getUint32(at + 8 + BITMAP_ALLOCATED);
      if (zeroed & allocated) {
        teller.broken?.(
          `ERROR offset=${host.toString(16)}: Allocated cluster has corrupted subcluster ` +
            'allocation bitmap',
        );
      }
      hasData = allocated !== 0;
    }
    if (host % clusterSize !== 0) {
      if (!hasData && teller.misplacedZeros !== undefined) {
        teller.misplacedZeros(host, table);
        return false;
      }
      const kind = hasData ? 'Data' : 'Preallocated';
      teller.broken?.(
        `ERROR offset=${host.toString(16)}: ${kind} cluster is not properly aligned; ` +
          'L2 entry corrupted.',
      );
    }
    if (!this.#hasDataFile) this.#add(host, clusterSize, teller);
    return true;
  }

  #compressed(high: number, low: number, at: number, teller: Teller): void {
    const { clusterBits, l2EntryBytes } = this.#image.geometry;
    const { host, lengthBytes } = decodeCompressed(high, low, clusterBits);
    const exact = exactHost(high, low, clusterBits);
    if (high & COPIED_HIGH) {
      teller.broken?.(
        `ERROR: coffset=0x${exact.toString(16)}: copied flag must never be set for ` +
          'compressed clusters',
      );
    }
    const cluster = `ERROR compressed cluster ${at / l2EntryBytes} with`;
    const entry = `entry=0x${entryHex(high & ~COPIED_HIGH, low)}`;
    if (this.#hasDataFile) {
      teller.broken?.(`${cluster} data file, ${entry}`);
      return;
    }
    const hasBitmap = l2EntryBytes === 16 && this.#view.getBigUint64(at + 8) !== 0n;
    if (hasBitmap) {
      teller.broken?.(`${cluster} non-zero subcluster allocation bitmap, ${entry}`);
      return;
    }
    this.#add(host, lengthBytes, teller, exact);
    if (teller.isActive) teller.cluster?.(null, null, teller.times);
  }
}

/** Past 2^53 the offset of compressed data is no exact number. */
function exactHost(high: number, low: number, clusterBits: number): bigint {
  const entry = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  return entry & ((1n << BigInt(62 - (clusterBits - 8))) - 1n);
}

/** Those of a table that the file has: what is past its end says nothing, whatever its size. */
export function entriesInFile({ size }: Storage, offset: number, entries: number): number {
  return Math.min(entries, Math.ceil(Math.max(0, size - offset) / 8));
}

export async function readTable(
  storage: Storage,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await storage.read(offset, bytes);
  return bytes;
}

/** A table entry as QEMU prints it: hexadecimal, without leading zeros. */
export function entryHex(high: number, low: number): string {
  const head = (high >>> 0).toString(16);
  const tail = (low >>> 0).toString(16);
  return head === '0' ? tail : head + tail.padStart(8, '0');
}
