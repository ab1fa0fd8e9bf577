// Makes hostile images of sound ones: fields of the header, entries of tables and their places get
// values that lie, and bytes are changed anywhere. Which is which comes from the tables of fields in
// src/qcow2/spec.ts and from where the sound image has its tables.

import { viewOf } from '../../../src/qcow2/fields.ts';
import { geometryOfHeader, type Header, parseHeader } from '../../../src/qcow2/header.ts';
import {
  BITMAP_ENTRY,
  EXTENSION,
  type Field,
  HEADER,
  SNAPSHOT,
  SNAPSHOT_FIXED_LENGTH,
} from '../../../src/qcow2/spec.ts';
import type { Random } from './random.ts';

/** A place in a file that means a number. */
interface Slot {
  readonly what: string;
  readonly at: number;
  readonly bits: 16 | 32 | 64;
}

/** What a sound image has, and where. */
export interface Anatomy {
  /** By kind, so that one of millions of entries of one kind is no more likely than a header field. */
  readonly kinds: readonly (readonly Slot[])[];
  /** Offsets of structures. */
  readonly landmarks: readonly number[];
  readonly clusterSize: number;
  readonly size: number;
}

const OFFSET = 0x00ff_ffff_ffff_fe00n;

export function anatomyOf(bytes: Uint8Array): Anatomy {
  const header = parseHeader(bytes);
  const { clusterSize, l2EntryBytes } = geometryOfHeader(header);
  const kinds: Slot[][] = [];
  const landmarks = [0, header.l1TableOffset, header.refcountTableOffset, header.snapshotsOffset];
  const add = (slots: Slot[]): void => {
    if (slots.length > 0) kinds.push(slots.filter(({ at, bits }) => at + bits / 8 <= bytes.length));
  };
  add(fieldSlots(HEADER, 0, 'header'));
  const l1 = entries('L1', header.l1TableOffset, header.l1Size);
  add(l1);
  const l2s = pointers(bytes, l1);
  landmarks.push(...l2s);
  add(l2s.flatMap((at) => entries('L2', at, Math.min(clusterSize, 2048) / 8, l2EntryBytes)));
  const entryCount = (header.refcountTableClusters * clusterSize) / 8;
  const table = entries('refcount table', header.refcountTableOffset, entryCount);
  add(table);
  const blocks = pointers(bytes, table);
  landmarks.push(...blocks);
  add(blocks.flatMap((at) => entries('refcount block', at, Math.min(64, clusterSize / 8))));
  add(snapshotSlots(bytes, header));
  add(extensionSlots(bytes, header));
  add(bitmapSlots(bytes, header, landmarks));
  return {
    kinds: kinds.filter((kind) => kind.length > 0),
    landmarks,
    clusterSize,
    size: bytes.length,
  };
}

function fieldSlots(table: Record<string, Field>, base: number, what: string): Slot[] {
  return Object.entries(table).map(([name, { offset, bits }]) => ({
    what: `${what} ${name}`,
    at: base + offset,
    bits,
  }));
}

function entries(what: string, offset: number, count: number, step = 8): Slot[] {
  const bits = 64;
  return Array.from({ length: count }, (_, i) => ({ what, at: offset + i * step, bits }));
}

/** Where the entries of a table lead. */
function pointers(bytes: Uint8Array, table: readonly Slot[]): number[] {
  const view = viewOf(bytes);
  const found = new Set<number>();
  for (const { at } of table) {
    if (at + 8 > bytes.length) continue;
    const offset = Number(view.getBigUint64(at) & OFFSET);
    if (offset > 0 && offset < bytes.length) found.add(offset);
  }
  return [...found];
}

function snapshotSlots(bytes: Uint8Array, header: Header): Slot[] {
  const slots: Slot[] = [];
  let at = header.snapshotsOffset;
  for (let i = 0; i < header.nbSnapshots && at + SNAPSHOT_FIXED_LENGTH <= bytes.length; i++) {
    const view = viewOf(bytes.subarray(at));
    const [id, name] = [view.getUint16(12), view.getUint16(14)];
    const extra = view.getUint32(SNAPSHOT.extraDataSize.offset);
    slots.push(...fieldSlots(SNAPSHOT, at, 'snapshot'));
    slots.push({ what: 'snapshot id length', at: at + 12, bits: 16 });
    slots.push({ what: 'snapshot name length', at: at + 14, bits: 16 });
    slots.push({ what: 'snapshot vm state size', at: at + 40, bits: 64 });
    slots.push({ what: 'snapshot disk size', at: at + 48, bits: 64 });
    at += Math.ceil((SNAPSHOT_FIXED_LENGTH + extra + id + name) / 8) * 8;
  }
  return slots;
}

function extensionSlots(bytes: Uint8Array, header: Header): Slot[] {
  const slots: Slot[] = [];
  const view = viewOf(bytes);
  for (let at = header.headerLength; at + 8 <= header.extensionsEnd; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    slots.push({ what: 'extension type', at, bits: 32 });
    slots.push({ what: 'extension length', at: at + 4, bits: 32 });
    if (type === EXTENSION.bitmaps) slots.push({ what: 'bitmaps', at: at + 8, bits: 32 });
    if (type === EXTENSION.bitmaps || type === EXTENSION.encryptionHeader) {
      for (let i = 0; i < length; i += 8) {
        slots.push({ what: 'extension number', at: at + 8 + i, bits: 64 });
      }
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return slots;
}

function bitmapSlots(bytes: Uint8Array, header: Header, landmarks: number[]): Slot[] {
  const extension = header.extensions.find(({ type }) => type === EXTENSION.bitmaps);
  if (extension === undefined) return [];
  const count = viewOf(extension.data).getUint32(0);
  const directory = Number(viewOf(extension.data).getBigUint64(16));
  landmarks.push(directory);
  const slots: Slot[] = [];
  let at = directory;
  for (let i = 0; i < count && at + 24 <= bytes.length; i++) {
    const view = viewOf(bytes.subarray(at));
    slots.push({ what: 'bitmap table offset', at, bits: 64 });
    for (const [name, offset] of Object.entries(BITMAP_ENTRY)) {
      slots.push({ what: `bitmap ${name}`, at: at + offset, bits: offset >= 16 ? 16 : 32 });
    }
    const table = Number(view.getBigUint64(0));
    landmarks.push(table);
    slots.push(...entries('bitmap table', table, view.getUint32(BITMAP_ENTRY.tableSize)));
    at += Math.ceil((24 + view.getUint16(BITMAP_ENTRY.nameSize)) / 8) * 8;
  }
  return slots;
}

/** A copy with one to four lies in it, and what they are. */
export function mutate(
  bytes: Uint8Array,
  anatomy: Anatomy,
  random: Random,
): { readonly bytes: Uint8Array; readonly lies: readonly string[] } {
  let changed: Uint8Array = bytes.slice();
  const lies: string[] = [];
  const count = 1 + (random.chance(40) ? random.below(4) : 0);
  for (let i = 0; i < count; i++) {
    const way = random.below(100);
    if (way < 70) lies.push(lieInSlot(changed, anatomy, random));
    else if (way < 88) lies.push(changeBytes(changed, random));
    else if (way < 94) lies.push(moveBytes(changed, anatomy, random));
    else {
      changed = resize(changed, anatomy, random);
      lies.push(`${changed.length} bytes long`);
    }
  }
  return { bytes: changed, lies };
}

function lieInSlot(bytes: Uint8Array, anatomy: Anatomy, random: Random): string {
  const { what, at, bits } = random.pick(random.pick(anatomy.kinds));
  if (at + bits / 8 > bytes.length) return `${what} is gone`;
  const view = viewOf(bytes);
  const mask = (1n << BigInt(bits)) - 1n;
  const old =
    bits === 64
      ? view.getBigUint64(at)
      : BigInt(bits === 32 ? view.getUint32(at) : view.getUint16(at));
  const value = lie(old, BigInt(bits), anatomy, random) & mask;
  if (bits === 64) view.setBigUint64(at, value);
  else if (bits === 32) view.setUint32(at, Number(value));
  else view.setUint16(at, Number(value));
  return `${what} at ${at}: 0x${old.toString(16)} -> 0x${value.toString(16)}`;
}

function lie(old: bigint, bits: bigint, anatomy: Anatomy, random: Random): bigint {
  const { clusterSize, landmarks, size } = anatomy;
  const landmark = BigInt(random.pick(landmarks));
  const flags = [0n, 1n << 63n, 1n << 62n, 1n].map((flag) => flag & ((1n << bits) - 1n));
  switch (random.below(12)) {
    case 0:
      return 0n;
    case 1:
      return (1n << bits) - 1n;
    case 2:
      return old ^ (1n << BigInt(random.below(Number(bits))));
    case 3:
      return old + BigInt(random.below(3) - 1);
    case 4:
      return landmark;
    case 5:
      return landmark | random.pick(flags);
    case 6:
      return landmark + BigInt(random.below(3) - 1) * BigInt(clusterSize / 2);
    case 7:
      return BigInt(Math.floor(size / clusterSize) * clusterSize) | random.pick(flags);
    case 8:
      return BigInt(random.below(size / clusterSize + 2) * clusterSize) | random.pick(flags);
    case 9:
      return 1n << BigInt(random.below(Number(bits)));
    case 10:
      return (old & ~OFFSET) | BigInt(random.below(size / clusterSize + 2) * clusterSize);
    default:
      return (BigInt(random.next()) << 32n) | BigInt(random.next());
  }
}

function changeBytes(bytes: Uint8Array, random: Random): string {
  // The start of a file has more in it that matters.
  const at = random.below(random.chance(30) ? Math.min(512, bytes.length) : bytes.length);
  const length = random.chance(70) ? 1 : 1 + random.below(64);
  for (let i = at; i < Math.min(bytes.length, at + length); i++) bytes[i] = random.below(256);
  return `${length} bytes at ${at}`;
}

/** One cluster gets the content of another one. */
function moveBytes(bytes: Uint8Array, { clusterSize, landmarks }: Anatomy, random: Random): string {
  const clusters = Math.max(1, Math.floor(bytes.length / clusterSize));
  const any = () => random.below(clusters) * clusterSize;
  const from = random.chance(50) ? random.pick(landmarks) : any();
  const to = random.chance(50) ? random.pick(landmarks) : any();
  bytes.copyWithin(to, from, from + clusterSize);
  return `cluster at ${from} copied to ${to}`;
}

function resize(bytes: Uint8Array, { clusterSize }: Anatomy, random: Random): Uint8Array {
  if (random.chance(70)) return bytes.slice(0, random.below(bytes.length));
  const longer = new Uint8Array(bytes.length + random.below(4 * clusterSize));
  longer.set(bytes);
  return longer;
}
