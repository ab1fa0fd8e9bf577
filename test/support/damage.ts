// An image damaged in one of many ways, the same again for the same seed: header fields, entries of
// each kind of table, bytes of tables, files that were cut.

import { BITMAP_ENTRY, HEADER, SNAPSHOT } from '../../src/qcow2/spec.ts';
import { type ImagePlaces, placesIn, type TablePlace } from './image-places.ts';
import { Random } from './random.ts';

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const FAR = 1n << 50n;
const hex = (value: bigint | number) => `0x${value.toString(16)}`;

export interface Damaged {
  readonly bytes: Buffer;
  /** What was done, in words. */
  readonly what: readonly string[];
}

/** Changes the bytes, tells how; undefined where the image has nothing of the kind. */
type Way = (work: DamageWork) => string | undefined;

class DamageWork {
  bytes: Buffer;
  readonly places: ImagePlaces;
  readonly random: Random;

  constructor(sound: Buffer, random: Random) {
    this.bytes = Buffer.from(sound);
    this.places = placesIn(sound);
    this.random = random;
  }

  /** A wrong value for a place that holds a pointer with flags. */
  pointer(old: bigint): bigint {
    const { places, random } = this;
    const cluster = BigInt(places.clusterSize);
    const end = BigInt(places.end);
    const kinds: readonly (() => bigint)[] = [
      () => 0n,
      () => old ^ COPIED,
      () => old ^ COMPRESSED,
      () => old ^ 1n,
      () => old | (1n << BigInt(1 + random.below(8))),
      () => old | (1n << BigInt(56 + random.below(6))),
      () => old + 512n,
      () => old + cluster * BigInt(1 + random.below(4)),
      () => (old & COPIED) | end,
      () => (old & COPIED) | (end + cluster * BigInt(random.below(64))),
      () => (old & COPIED) | FAR,
      () => (old & COPIED) | BigInt(random.pick(this.structures())),
      () => (old & COPIED) | BigInt(random.pick(this.structures())),
      () => COPIED | BigInt(random.pick(this.structures())),
      () => (1n << 64n) - 1n,
      () => random.word(),
    ];
    return BigInt.asUintN(64, random.pick(kinds)());
  }

  /** Where all kinds of structures lie, each kind as likely as another. */
  structures(): readonly number[] {
    const { places } = this;
    const tables = (list: readonly TablePlace[]) => list.map(({ offset }) => offset);
    const kinds: readonly (readonly number[])[] = [
      [0],
      [places.l1.offset],
      [places.refcountTable.offset],
      tables(places.l2),
      tables(places.inactiveL1),
      tables(places.inactiveL2),
      tables(places.refcountBlocks),
      tables(places.bitmapTables),
      places.bitmapsExtension === 0
        ? []
        : [Number(this.bytes.readBigUInt64BE(places.bitmapsExtension + 16))],
      places.snapshots.slice(0, 1),
      places.data,
    ];
    return this.random.pick(kinds.filter((list) => list.length > 0));
  }

  number(old: number, bits: 8 | 16 | 32): number {
    const most = 2 ** bits - 1;
    const wrong = [0, 1, old + 1, old - 1, old * 2, old ^ (1 << this.random.below(8)), most];
    const value = this.random.pick([...wrong, this.random.below(2 ** bits)]);
    return Math.min(Math.max(value >>> 0, 0), most);
  }

  change64(at: number, value: bigint): string {
    const old = this.bytes.readBigUInt64BE(at);
    this.bytes.writeBigUInt64BE(value, at);
    return `at ${hex(at)}: ${hex(old)} -> ${hex(value)}`;
  }

  changeNumber(at: number, bits: 8 | 16 | 32): string {
    const bytes = bits / 8;
    const old = this.bytes.readUIntBE(at, bytes);
    const value = this.number(old, bits);
    this.bytes.writeUIntBE(value, at, bytes);
    return `at ${hex(at)}: ${old} -> ${value}`;
  }

  /** An entry of one of the tables; one that is in use most of the time. */
  entry(tables: readonly TablePlace[], entryBytes = 8): number | undefined {
    if (tables.length === 0) return undefined;
    const { offset, entries } = this.random.pick(tables);
    const used: number[] = [];
    for (let i = 0; i < entries; i++) {
      const at = offset + i * entryBytes;
      if (at + 8 <= this.bytes.length && this.bytes.readBigUInt64BE(at) !== 0n) used.push(at);
    }
    if (used.length > 0 && this.random.below(8) > 0) return this.random.pick(used);
    const at = offset + this.random.below(Math.max(entries, 1)) * entryBytes;
    return at + 8 <= this.bytes.length ? at : undefined;
  }

  pointerIn(name: string, tables: readonly TablePlace[], entryBytes = 8): string | undefined {
    const at = this.entry(tables, entryBytes);
    if (at === undefined) return undefined;
    return `${name} entry ${this.change64(at, this.pointer(this.bytes.readBigUInt64BE(at)))}`;
  }
}

const headerField: Way = (work) => {
  const fields = Object.entries(HEADER).filter(
    ([, { offset }]) => offset < work.places.headerLength,
  );
  const [name, { offset, bits, as }] = work.random.pick(fields);
  if (bits === 32) return `header ${name} ${work.changeNumber(offset, 32)}`;
  const old = work.bytes.readBigUInt64BE(offset);
  const known = work.random.below(4) > 0;
  const flipped = old ^ (1n << BigInt(work.random.below(known ? 5 : 64)));
  return `header ${name} ${work.change64(offset, as === 'flags' ? flipped : work.pointer(old))}`;
};

const headerByte: Way = (work) => {
  const { headerLength, extensionsEnd } = work.places;
  const at = headerLength + work.random.below(extensionsEnd - headerLength);
  return `header extensions ${work.changeNumber(at, 8)}`;
};

const refcount: Way = (work) => {
  const { refcountBits, refcountBlocks } = work.places;
  const { offset, entries } = work.random.pick(refcountBlocks);
  const used = Math.min(entries, Math.ceil(work.bytes.length / work.places.clusterSize) + 4);
  const index = work.random.below(used);
  const name = `refcount ${index} of block ${hex(offset)}`;
  if (refcountBits === 64) {
    const value = work.random.pick([0n, 1n, 2n, 3n, (1n << 64n) - 1n]);
    return `${name} ${work.change64(offset + index * 8, value)}`;
  }
  if (refcountBits < 8) {
    const at = offset + Math.floor((index * refcountBits) / 8);
    const bit = (index * refcountBits) % 8;
    work.bytes[at] = (work.bytes[at] ?? 0) ^ (1 << bit);
    return `${name}: bit flipped`;
  }
  const at = offset + (index * refcountBits) / 8;
  if (at + refcountBits / 8 > work.bytes.length) return undefined;
  return `${name} ${work.changeNumber(at, refcountBits as 8 | 16 | 32)}`;
};

const snapshotField: Way = (work) => {
  if (work.places.snapshots.length === 0) return undefined;
  const start = work.random.pick(work.places.snapshots);
  const [name, field] = work.random.pick(Object.entries(SNAPSHOT));
  const lengths = ['id length', 'name length'] as const;
  const n = work.random.below(10);
  if (n < 2) return `snapshot ${lengths[n]} ${work.changeNumber(start + 12 + 2 * n, 16)}`;
  const at = start + field.offset;
  if (field.bits === 32) return `snapshot ${name} ${work.changeNumber(at, 32)}`;
  return `snapshot ${name} ${work.change64(at, work.pointer(work.bytes.readBigUInt64BE(at)))}`;
};

const BITMAP_BITS: Readonly<Record<keyof typeof BITMAP_ENTRY, 8 | 16 | 32 | 64>> = {
  tableOffset: 64,
  tableSize: 32,
  flags: 32,
  type: 8,
  granularityBits: 8,
  nameSize: 16,
  extraDataSize: 32,
};

const bitmapField: Way = (work) => {
  const { bitmaps, bitmapsExtension } = work.places;
  if (bitmaps.length === 0) return undefined;
  if (work.random.below(4) === 0) {
    const n = work.random.below(3);
    if (n === 0) return `bitmaps extension, count ${work.changeNumber(bitmapsExtension, 32)}`;
    const at = bitmapsExtension + 8 * n;
    const value = work.pointer(work.bytes.readBigUInt64BE(at));
    return `bitmaps extension, ${n === 1 ? 'size' : 'offset'} ${work.change64(at, value)}`;
  }
  const start = work.random.pick(bitmaps);
  const [name, bits] = work.random.pick(Object.entries(BITMAP_BITS));
  const at = start + BITMAP_ENTRY[name as keyof typeof BITMAP_ENTRY];
  if (bits !== 64) return `bitmap ${name} ${work.changeNumber(at, bits)}`;
  return `bitmap ${name} ${work.change64(at, work.pointer(work.bytes.readBigUInt64BE(at)))}`;
};

const randomBytes: Way = (work) => {
  const { clusterSize } = work.places;
  const start = work.random.pick(work.structures());
  const from = start === 0 ? 0 : work.random.below(clusterSize);
  const length = 1 + work.random.below(start === 0 ? 16 : clusterSize - from);
  const end = Math.min(start + from + length, work.bytes.length);
  const isZeros = work.random.below(3) === 0;
  for (let at = start + from; at < end; at++) {
    work.bytes[at] = isZeros ? 0 : work.random.below(256);
  }
  return `${isZeros ? 'zeros' : 'random bytes'} from ${hex(start + from)} to ${hex(end)}`;
};

const cut: Way = (work) => {
  const clusters = work.places.end / work.places.clusterSize;
  const few = work.random.below(2) === 0;
  const left = few ? clusters - 1 - work.random.below(4) : work.random.below(clusters);
  const ragged = work.random.below(3) === 0 ? work.random.below(work.places.clusterSize) : 0;
  const length = Math.min(Math.max(left, 0) * work.places.clusterSize + ragged, work.bytes.length);
  work.bytes = work.bytes.subarray(0, length);
  return `cut to ${hex(length)}`;
};

const WAYS: readonly Way[] = [
  headerField,
  headerField,
  headerByte,
  (work) => work.pointerIn('L1', [work.places.l1]),
  (work) => work.pointerIn('L1', [work.places.l1]),
  (work) => work.pointerIn('L2', work.places.l2, work.places.l2EntryBytes),
  (work) => work.pointerIn('L2', work.places.l2, work.places.l2EntryBytes),
  (work) => work.pointerIn('L2', work.places.l2, 8),
  (work) => work.pointerIn('inactive L1', work.places.inactiveL1),
  (work) => work.pointerIn('inactive L2', work.places.inactiveL2, work.places.l2EntryBytes),
  (work) => work.pointerIn('refcount table', [work.places.refcountTable]),
  (work) => work.pointerIn('refcount table', [work.places.refcountTable]),
  refcount,
  refcount,
  snapshotField,
  bitmapField,
  (work) => work.pointerIn('bitmap table', work.places.bitmapTables),
  randomBytes,
  randomBytes,
  cut,
];

/** One damage most of the time, at times two or three. */
export function damageImage(sound: Buffer, seed: number, index: number): Damaged {
  const random = new Random(seed, index);
  const work = new DamageWork(sound, random);
  const wanted = random.pick([1, 1, 1, 1, 1, 1, 2, 2, 3]);
  const what: string[] = [];
  while (what.length < wanted) {
    // What was cut off can't be changed any more: that comes last.
    const way = random.pick(what.length + 1 < wanted ? WAYS.slice(0, -1) : WAYS);
    const done = way(work);
    if (done !== undefined) what.push(done);
  }
  return { bytes: work.bytes, what };
}
