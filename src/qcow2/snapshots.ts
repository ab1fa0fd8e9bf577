// The table of internal snapshots, read and checked. Nothing here changes it.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { alignUp } from '../units.ts';
import { readFields, readU64, viewOf } from './fields.ts';
import { type Header, overhangingHint } from './header.ts';
import {
  MAX_SNAPSHOT_EXTRA_DATA,
  MAX_SNAPSHOT_TABLE_BYTES,
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
}

export interface SnapshotTable {
  readonly snapshots: readonly Snapshot[];
  /** Bytes that the table takes in the file. */
  readonly length: number;
}

export async function readSnapshots(storage: Storage, header: Header): Promise<Snapshot[]> {
  return [...(await readSnapshotTable(storage, header)).snapshots];
}

export async function readSnapshotTable(storage: Storage, header: Header): Promise<SnapshotTable> {
  const snapshots: Snapshot[] = [];
  let length = 0;
  for (let i = 0; i < header.nbSnapshots; i++) {
    // What lies past the end of the file reads as zeros: entries without a name.
    const entry = await readEntry(storage, header.snapshotsOffset + length, header, i);
    snapshots.push(entry.snapshot);
    length += entry.length;
    if (length > MAX_SNAPSHOT_TABLE_BYTES) {
      throw new ImageError('corrupt', 'Snapshot table is too big', {
        errno: 'EFBIG',
        hint: overhangingHint(header.nbSnapshots - i),
      });
    }
  }
  return { snapshots, length };
}

async function readEntry(
  storage: Storage,
  offset: number,
  header: Header,
  index: number,
): Promise<{ snapshot: Snapshot; length: number }> {
  const fixed = new Uint8Array(SNAPSHOT_FIXED_LENGTH);
  await storage.read(offset, fixed);
  const fields = readFields(SNAPSHOT, fixed);
  if (fields.extraDataSize > MAX_SNAPSHOT_EXTRA_DATA) {
    throw new ImageError('corrupt', `Too much extra metadata in snapshot table entry ${index}`, {
      errno: 'EFBIG',
      hint: 'You can force-remove this extra metadata with qemu-img check -r all',
    });
  }
  const view = viewOf(fixed);
  const idLength = view.getUint16(SNAPSHOT_ID_LENGTH_OFFSET);
  const nameLength = view.getUint16(SNAPSHOT_NAME_LENGTH_OFFSET);
  const extraEnd = SNAPSHOT_FIXED_LENGTH + fields.extraDataSize;
  const bytes = new Uint8Array(extraEnd + idLength + nameLength);
  await storage.read(offset, bytes);
  const whole = viewOf(bytes);
  const has = (position: number) => position + 8 <= extraEnd;
  const text = (start: number, length: number) =>
    new TextDecoder().decode(bytes.subarray(start, start + length));
  const snapshot: Snapshot = {
    id: text(extraEnd, idLength),
    name: text(extraEnd + idLength, nameLength),
    l1TableOffset: fields.l1TableOffset,
    l1Size: fields.l1Size,
    seconds: fields.seconds,
    nanoseconds: fields.nanoseconds,
    vmClockNanoseconds: fields.vmClockNanoseconds,
    vmStateSize: has(SNAPSHOT_EXTRA.vmStateSize)
      ? readU64(whole, SNAPSHOT_EXTRA.vmStateSize, 'snapshot vm state size')
      : fields.vmStateSize,
    diskSize: has(SNAPSHOT_EXTRA.diskSize)
      ? readU64(whole, SNAPSHOT_EXTRA.diskSize, 'snapshot disk size')
      : header.size,
    hasDiskSize: has(SNAPSHOT_EXTRA.diskSize),
    icount: has(SNAPSHOT_EXTRA.icount) ? whole.getBigUint64(SNAPSHOT_EXTRA.icount) : null,
  };
  return { snapshot, length: alignUp(bytes.length, 8) };
}
