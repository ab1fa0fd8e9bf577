// The table of internal snapshots: read and checked, and encoded anew. Nothing here changes the file.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { alignUp, KIB } from '../units.ts';
import { readFar, readFields, readU64, viewOf, writeField, writeU64 } from './fields.ts';
import { type Header, overhangingHint } from './header.ts';
import {
  MAX_SNAPSHOT_EXTRA_DATA,
  MAX_SNAPSHOT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  SNAPSHOT,
  SNAPSHOT_EXTRA,
  SNAPSHOT_FIXED_LENGTH,
  SNAPSHOT_ID_LENGTH_OFFSET,
  SNAPSHOT_NAME_LENGTH_OFFSET,
} from './spec.ts';

export interface Snapshot {
  readonly id: string;
  readonly name: string;
  readonly l1TableOffset: number;
  readonly l1Size: number;
  /** Seconds and nanoseconds since the Epoch. */
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly vmClockNanoseconds: bigint;
  readonly vmStateSize: number;
  /** Of the virtual disk when it was taken; the image's own where the entry does not say. */
  readonly diskSize: number;
  readonly hasDiskSize: boolean;
  /** Instructions executed, where recorded (record/replay). */
  readonly icount: bigint | null;
  /** As the table has them: what is written back, whatever we make of it. */
  readonly stored: StoredParts;
}

export interface StoredParts {
  readonly extraData: Uint8Array;
  readonly id: Uint8Array;
  readonly name: Uint8Array;
}

export interface SnapshotTable {
  readonly snapshots: readonly Snapshot[];
  /** Bytes that the table takes in the file. */
  readonly length: number;
}

/** What the header says of the table, and of the disk for entries that don't. */
export type SnapshotsHeader = Pick<Header, 'nbSnapshots' | 'snapshotsOffset' | 'size'>;

export async function readSnapshots(
  storage: Storage,
  header: SnapshotsHeader,
): Promise<Snapshot[]> {
  return [...(await readSnapshotTable(storage, header)).snapshots];
}

/** Throws `corrupt` for a table that can't be read; keeps nothing of it in memory. */
export async function checkSnapshots(storage: Storage, header: SnapshotsHeader): Promise<void> {
  await walkSnapshots(storage, header, undefined, () => undefined);
}

/**
 * For who takes a table as it is, also with numbers past 2^53 - 1. Of what breaks a limit it hears,
 * where it can, and gets the rest.
 */
export interface SnapshotLeniency {
  /** Unknown data of an entry past 1024 bytes is left out. */
  tooMuchExtraData?(index: number, size: number): void;
  /** So many entries at the end, with which the table would be too large, are left out. */
  tooLong?(count: number): void;
}

/** Throws `corrupt` where a limit is broken and nobody hears of it. */
export async function readSnapshotTable(
  storage: Storage,
  header: SnapshotsHeader,
  lenient?: SnapshotLeniency,
): Promise<SnapshotTable> {
  const snapshots: Snapshot[] = [];
  const visit = (snapshot: Snapshot) => snapshots.push(snapshot);
  const length = await walkSnapshots(storage, header, lenient, visit);
  return { snapshots, length };
}

/** Returns the bytes that the table takes in the file. */
async function walkSnapshots(
  storage: Storage,
  header: SnapshotsHeader,
  lenient: SnapshotLeniency | undefined,
  visit: (snapshot: Snapshot) => void,
): Promise<number> {
  const table = new TableReader(storage);
  let length = 0;
  for (let i = 0; i < header.nbSnapshots; i++) {
    // What lies past the end of the file reads as zeros: entries without a name.
    const entry = await readEntry(table, header.snapshotsOffset + length, header, i, lenient);
    if (lenient?.tooLong && length + entry.length > MAX_SNAPSHOT_TABLE_BYTES) {
      lenient.tooLong(header.nbSnapshots - i);
      break;
    }
    visit(entry.snapshot);
    length += entry.length;
    if (length > MAX_SNAPSHOT_TABLE_BYTES) {
      throw new ImageError('corrupt', 'Snapshot table is too big', {
        errno: 'EFBIG',
        hint: overhangingHint(header.nbSnapshots - i),
      });
    }
  }
  return length;
}

/** Entries are short, and there may be very many: they are read together. */
const READ_AHEAD = 128 * KIB;

/** Bytes of the table, a piece of it at a time in memory. */
class TableReader {
  readonly #storage: Storage;
  #piece = new Uint8Array();
  #start = 0;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** Not a copy; stays as it is. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const within = offset - this.#start;
    if (within < 0 || within + length > this.#piece.length) {
      const ahead = Math.min(READ_AHEAD, this.#storage.size - offset);
      this.#piece = new Uint8Array(Math.max(length, ahead));
      this.#start = offset;
      await this.#storage.read(offset, this.#piece);
      return this.#piece.subarray(0, length);
    }
    return this.#piece.subarray(within, within + length);
  }
}

async function readEntry(
  table: TableReader,
  offset: number,
  header: SnapshotsHeader,
  index: number,
  lenient: SnapshotLeniency | undefined,
): Promise<{ snapshot: Snapshot; length: number }> {
  const fixed = await table.read(offset, SNAPSHOT_FIXED_LENGTH);
  const read = lenient === undefined ? readU64 : readFar;
  const fields = readFields(SNAPSHOT, fixed, () => read);
  if (fields.extraDataSize > MAX_SNAPSHOT_EXTRA_DATA && !lenient?.tooMuchExtraData) {
    throw new ImageError('corrupt', `Too much extra metadata in snapshot table entry ${index}`, {
      errno: 'EFBIG',
      hint: 'You can force-remove this extra metadata with qemu-img check -r all',
    });
  }
  const view = viewOf(fixed);
  const idLength = view.getUint16(SNAPSHOT_ID_LENGTH_OFFSET);
  const nameLength = view.getUint16(SNAPSHOT_NAME_LENGTH_OFFSET);
  const extraKept = Math.min(fields.extraDataSize, MAX_SNAPSHOT_EXTRA_DATA);
  const extraLeft = fields.extraDataSize - extraKept;
  if (extraLeft > 0) lenient?.tooMuchExtraData?.(index, fields.extraDataSize);
  const extraEnd = SNAPSHOT_FIXED_LENGTH + extraKept;
  const bytes = await table.read(offset, extraEnd);
  const namesAt = extraEnd + extraLeft;
  const names = await table.read(offset + namesAt, idLength + nameLength);
  const whole = viewOf(bytes);
  const has = (position: number) => position + 8 <= extraEnd;
  const stored: StoredParts = {
    extraData: bytes.subarray(SNAPSHOT_FIXED_LENGTH, extraEnd),
    id: names.subarray(0, idLength),
    name: names.subarray(idLength),
  };
  const snapshot: Snapshot = {
    id: new TextDecoder().decode(stored.id),
    name: new TextDecoder().decode(stored.name),
    stored,
    l1TableOffset: fields.l1TableOffset,
    l1Size: fields.l1Size,
    seconds: fields.seconds,
    nanoseconds: fields.nanoseconds,
    vmClockNanoseconds: fields.vmClockNanoseconds,
    vmStateSize: has(SNAPSHOT_EXTRA.vmStateSize)
      ? read(whole, SNAPSHOT_EXTRA.vmStateSize, 'snapshot vm state size')
      : fields.vmStateSize,
    diskSize: has(SNAPSHOT_EXTRA.diskSize)
      ? read(whole, SNAPSHOT_EXTRA.diskSize, 'snapshot disk size')
      : header.size,
    hasDiskSize: has(SNAPSHOT_EXTRA.diskSize),
    icount: has(SNAPSHOT_EXTRA.icount) ? whole.getBigUint64(SNAPSHOT_EXTRA.icount) : null,
  };
  return { snapshot, length: alignUp(namesAt + names.length, 8) };
}

/** What is not recorded has all bits set. */
const NO_ICOUNT = 0xffff_ffff_ffff_ffffn;

/**
 * The table's bytes. Each entry gets all fields of the extra data that we know; what comes behind
 * them stays.
 */
export function encodeSnapshotTable(snapshots: readonly Snapshot[]): Uint8Array {
  const entries = snapshots.map(encodeEntry);
  const last = entries.at(-1)?.length ?? 0;
  const length = entries.slice(0, -1).reduce((sum, entry) => sum + alignUp(entry.length, 8), last);
  if (snapshots.length > MAX_SNAPSHOTS || length > MAX_SNAPSHOT_TABLE_BYTES) {
    throw new ImageError('invalid', 'The snapshot table would get too large', { errno: 'EFBIG' });
  }
  const bytes = new Uint8Array(length);
  let position = 0;
  for (const entry of entries) {
    bytes.set(entry, position);
    position += alignUp(entry.length, 8);
  }
  return bytes;
}

function encodeEntry(snapshot: Snapshot): Uint8Array {
  const { extraData, id, name } = snapshot.stored;
  const known = SNAPSHOT_EXTRA.icount + 8 - SNAPSHOT_FIXED_LENGTH;
  const extraDataSize = Math.max(known, extraData.length);
  const extraEnd = SNAPSHOT_FIXED_LENGTH + extraDataSize;
  const bytes = new Uint8Array(extraEnd + id.length + name.length);
  // Where 32 bits are too few, an old reader is to see no state of a machine, not a part of one.
  const vmStateSize = snapshot.vmStateSize > 0xffff_ffff ? 0 : snapshot.vmStateSize;
  for (const [key, field] of Object.entries(SNAPSHOT)) {
    const values = { ...snapshot, vmStateSize, extraDataSize };
    writeField(bytes, field, values[key as keyof typeof SNAPSHOT]);
  }
  const view = viewOf(bytes);
  view.setUint16(SNAPSHOT_ID_LENGTH_OFFSET, id.length);
  view.setUint16(SNAPSHOT_NAME_LENGTH_OFFSET, name.length);
  bytes.set(extraData, SNAPSHOT_FIXED_LENGTH);
  writeU64(view, SNAPSHOT_EXTRA.vmStateSize, snapshot.vmStateSize);
  writeU64(view, SNAPSHOT_EXTRA.diskSize, snapshot.diskSize);
  view.setBigUint64(SNAPSHOT_EXTRA.icount, snapshot.icount ?? NO_ICOUNT);
  bytes.set(id, extraEnd);
  bytes.set(name, extraEnd + id.length);
  return bytes;
}
