// Where the structures of a sound image lie, read from its bytes with the field table alone.

import { HEADER } from '../../src/qcow2/spec.ts';

const OFFSET = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
const BITMAPS = 0x2385_2875;
const EXTENDED_L2 = 1n << 4n;

/** A structure that consists of entries, all of one size. */
export interface TablePlace {
  readonly offset: number;
  readonly entries: number;
}

export interface ImagePlaces {
  readonly version: number;
  readonly clusterSize: number;
  readonly refcountBits: number;
  /** Of an L2 entry. */
  readonly l2EntryBytes: number;
  readonly end: number;
  readonly headerLength: number;
  readonly extensionsEnd: number;
  readonly l1: TablePlace;
  readonly inactiveL1: readonly TablePlace[];
  readonly l2: readonly TablePlace[];
  readonly inactiveL2: readonly TablePlace[];
  readonly refcountTable: TablePlace;
  readonly refcountBlocks: readonly TablePlace[];
  /** Where the entries start. */
  readonly snapshots: readonly number[];
  /** The data of the bitmaps extension; 0: there is none. */
  readonly bitmapsExtension: number;
  readonly bitmaps: readonly number[];
  readonly bitmapTables: readonly TablePlace[];
  /** Clusters of the guest's data. */
  readonly data: readonly number[];
}

class Parser {
  readonly #bytes: Buffer;
  readonly clusterSize: number;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.clusterSize = 2 ** bytes.readUInt32BE(HEADER.clusterBits.offset);
  }

  u16 = (at: number) => this.#bytes.readUInt16BE(at);
  u32 = (at: number) => this.#bytes.readUInt32BE(at);
  word = (at: number) => this.#bytes.readBigUInt64BE(at);
  pointer = (at: number) => Number(this.word(at) & OFFSET);

  /** The clusters that the entries of a table point to, each once. */
  pointers({ offset, entries }: TablePlace, entryBytes = 8): readonly number[] {
    const found = new Set<number>();
    for (let i = 0; i < entries; i++) {
      const at = offset + i * entryBytes;
      if (!(this.word(at) & COMPRESSED)) found.add(this.pointer(at));
    }
    found.delete(0);
    return [...found];
  }

  snapshots(start: number, count: number): readonly number[] {
    const found: number[] = [];
    for (let at = start; found.length < count; ) {
      found.push(at);
      at += 40 + this.u32(at + 36) + this.u16(at + 12) + this.u16(at + 14);
      at = Math.ceil(at / 8) * 8;
    }
    return found;
  }

  extensions(start: number): { readonly bitmaps: number; readonly end: number } {
    let [at, bitmaps] = [start, 0];
    while (this.u32(at) !== 0) {
      if (this.u32(at) === BITMAPS) bitmaps = at + 8;
      at += 8 + Math.ceil(this.u32(at + 4) / 8) * 8;
    }
    return { bitmaps, end: at + 8 };
  }

  bitmaps(extension: number): readonly number[] {
    if (extension === 0) return [];
    const [count, start] = [this.u32(extension), Number(this.word(extension + 16))];
    const found: number[] = [];
    for (let at = start; found.length < count; ) {
      found.push(at);
      at += Math.ceil((24 + this.u16(at + 18) + this.u32(at + 20)) / 8) * 8;
    }
    return found;
  }
}

export function placesIn(bytes: Buffer): ImagePlaces {
  const parser = new Parser(bytes);
  const { u32, word, clusterSize } = parser;
  const version = u32(HEADER.version.offset);
  const flags = version < 3 ? 0n : word(HEADER.incompatibleFeatures.offset);
  const refcountBits = version < 3 ? 16 : 2 ** u32(HEADER.refcountOrder.offset);
  const headerLength = version < 3 ? 72 : u32(HEADER.headerLength.offset);
  const l2EntryBytes = flags & EXTENDED_L2 ? 16 : 8;
  const tablesAt = (places: readonly number[], entries: number): readonly TablePlace[] =>
    places.map((offset) => ({ offset, entries }));
  const l1 = { offset: parser.pointer(HEADER.l1TableOffset.offset), entries: u32(36) };
  const refcountTable = {
    offset: parser.pointer(HEADER.refcountTableOffset.offset),
    entries: (u32(HEADER.refcountTableClusters.offset) * clusterSize) / 8,
  };
  const snapshots = parser.snapshots(
    Number(word(HEADER.snapshotsOffset.offset)),
    u32(HEADER.nbSnapshots.offset),
  );
  const inactiveL1 = snapshots.map((at) => ({ offset: parser.pointer(at), entries: u32(at + 8) }));
  const { bitmaps: bitmapsExtension, end: extensionsEnd } = parser.extensions(headerLength);
  const bitmaps = parser.bitmaps(bitmapsExtension);
  const l2Of = (tables: readonly TablePlace[]) =>
    tablesAt(
      tables.flatMap((table) => parser.pointers(table)),
      clusterSize / l2EntryBytes,
    );
  const l2 = l2Of([l1]);
  return {
    version,
    clusterSize,
    refcountBits,
    l2EntryBytes,
    end: Math.ceil(bytes.length / clusterSize) * clusterSize,
    headerLength,
    extensionsEnd,
    l1,
    inactiveL1,
    l2,
    inactiveL2: l2Of(inactiveL1),
    refcountTable,
    refcountBlocks: tablesAt(parser.pointers(refcountTable), (clusterSize * 8) / refcountBits),
    snapshots,
    bitmapsExtension,
    bitmaps,
    bitmapTables: bitmaps.map((at) => ({ offset: parser.pointer(at), entries: u32(at + 8) })),
    data: l2.flatMap((table) => parser.pointers(table, l2EntryBytes)),
  };
}
