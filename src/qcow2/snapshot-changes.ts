// Internal snapshots taken, gone back to and deleted: which state comes next. How to get there in
// one step is state-switch.ts's matter.

import { ImageError, withState } from '../errors.ts';
import { l1EntriesFor } from './geometry.ts';
import type { Qcow2Image } from './image.ts';
import type { PlaceContext } from './place.ts';
import type { L1Place } from './refcount-changes.ts';
import { checkReachable } from './resize.ts';
import { encodeSnapshotTable, readSnapshotTable, type Snapshot } from './snapshots.ts';
import { INCOMPATIBLE, MAX_HOST_OFFSET, MAX_L1_BYTES, MAX_SNAPSHOTS } from './spec.ts';
import { type NewState, switchState } from './state-switch.ts';

export interface NewSnapshot {
  readonly name: string;
  /** Seconds and nanoseconds since the Epoch. */
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** What QEMU stores at most. */
const MAX_NAME_BYTES = 255;

/** Keeps what the disk shows now under a name. Durable when it resolves. */
export async function createSnapshot(image: Qcow2Image, wanted: NewSnapshot): Promise<void> {
  checkKind(image);
  await change(image, true, ({ tables }, snapshots) => {
    if (snapshots.length >= MAX_SNAPSHOTS) {
      throw new ImageError(
        'invalid',
        `${image.filename} has the most snapshots that there can be`,
        {
          errno: 'EFBIG',
        },
      );
    }
    const active: L1Place = { offset: tables.l1Offset, size: tables.l1Entries };
    const taken = entryFor(wanted, nextId(snapshots), active, image.size);
    return {
      active,
      // The table becomes that of the snapshot, the active state gets another.
      gains: active,
      drops: null,
      shared: true,
      l1Size: active.size,
      size: image.size,
      snapshots: [...snapshots, taken],
    };
  });
}

/** Makes the disk show what it showed then; its size, too. Durable when it resolves. */
export async function applySnapshot(image: Qcow2Image, idOrName: string): Promise<void> {
  checkKind(image);
  if (image.bitmaps.list.length > 0) {
    // They would have to record what becomes different.
    throw new ImageError('unsupported', 'Device has active dirty bitmaps', { errno: 'EBUSY' });
  }
  await change(image, false, (context, snapshots) => {
    const snapshot =
      snapshots.find(({ id }) => id === idOrName) ??
      snapshots.find(({ name }) => name === idOrName);
    if (snapshot === undefined) throw notFound(image, idOrName);
    const { diskSize: size } = snapshot;
    const active = placeOf(snapshot, image.clusterSize);
    checkSize(image, size);
    const { tables } = context;
    return {
      active,
      gains: active,
      drops: { offset: tables.l1Offset, size: tables.l1Entries },
      shared: true,
      l1Size: Math.max(active.size, l1EntriesFor(size, image.geometry)),
      size,
      snapshots,
    };
  });
}

/** Deletes the first snapshot of that name. Durable when it resolves. */
export async function deleteSnapshot(image: Qcow2Image, name: string): Promise<void> {
  checkKind(image);
  await change(image, true, ({ tables }, snapshots) => {
    const snapshot = snapshots.find((each) => each.name === name);
    if (snapshot === undefined) throw notFound(image, name);
    const active: L1Place = { offset: tables.l1Offset, size: tables.l1Entries };
    return {
      active,
      gains: null,
      drops: placeOf(snapshot, image.clusterSize),
      shared: false,
      l1Size: active.size,
      size: image.size,
      snapshots: snapshots.filter((each) => each !== snapshot),
    };
  });
}

type Change = Omit<NewState, 'snapshotTable' | 'nbSnapshots' | 'oldTableLength'> & {
  readonly snapshots: readonly Snapshot[];
};

/** Carries a change out, or leaves everything as it is. */
async function change(
  image: Qcow2Image,
  dataUnchanged: boolean,
  decide: (context: PlaceContext, snapshots: readonly Snapshot[]) => Change,
): Promise<void> {
  const changing = image.replaceState({ dataUnchanged }, async (context, reload) => {
    await context.tables.checkpoint();
    const { snapshots: old, length } = await readSnapshotTable(image.storage, image.header);
    const { snapshots, ...state } = decide(context, old);
    await image.verify();
    const { clusters, holes } = await switchState(image, context, {
      ...state,
      snapshotTable: encodeSnapshotTable(snapshots),
      nbSnapshots: snapshots.length,
      oldTableLength: length,
    });
    const { tables } = await reload();
    await tables.loadRefcountTable();
    for (const [first, count] of clusters) tables.free(first, count);
    await tables.checkpoint();
    for (const [first, count] of holes) {
      await image.storage.discard(first * image.clusterSize, count * image.clusterSize);
    }
  });
  await changing.catch((error: unknown) => {
    throw withState(error, STATE);
  });
}

const STATE =
  'The disk and its snapshots are as they were, or as they were to become; ' +
  'once the cause is gone, the same command may be run again.';

/** An external data file has no refcounts that snapshots could raise. */
function checkKind({ filename, header }: Qcow2Image): void {
  if ((header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) === 0n) return;
  throw new ImageError('unsupported', `${filename}: no snapshots with an external data file`, {
    errno: 'ENOTSUP',
  });
}

function notFound({ filename }: Qcow2Image, name: string): ImageError {
  return new ImageError('not-found', `${filename} has no snapshot '${name}'`, { errno: 'ENOENT' });
}

function placeOf({ l1TableOffset: offset, l1Size: size }: Snapshot, clusterSize: number): L1Place {
  if (size * 8 > MAX_L1_BYTES) {
    throw new ImageError('corrupt', 'Snapshot L1 table too large', { errno: 'EFBIG' });
  }
  if (offset % clusterSize !== 0 || offset >= MAX_HOST_OFFSET) {
    throw new ImageError('corrupt', 'Snapshot L1 table offset invalid', { errno: 'EINVAL' });
  }
  return { offset, size };
}

/** The size of the disk at a snapshot's time becomes its size. */
function checkSize({ filename, header, size, geometry }: Qcow2Image, wanted: number): void {
  if (wanted === size) return;
  if (header.version < 3) {
    throw new ImageError('unsupported', "Can't resize a v2 image which has snapshots", {
      errno: 'ENOTSUP',
    });
  }
  if (wanted % 512 !== 0) {
    throw new ImageError('corrupt', 'The new size must be a multiple of 512', { errno: 'EINVAL' });
  }
  checkReachable(filename, l1EntriesFor(wanted, geometry));
}

/** One more than the largest number that an id begins with. */
function nextId(snapshots: readonly Snapshot[]): string {
  let most = 0n;
  for (const { id } of snapshots) {
    const number = BigInt(/^\s*\+?(\d+)/.exec(id)?.[1] ?? 0);
    if (number > most) most = number;
  }
  const limit = 2n ** 64n - 1n;
  return String(most >= limit ? 0n : most + 1n);
}

function entryFor(wanted: NewSnapshot, id: string, l1: L1Place, diskSize: number): Snapshot {
  const bytes = new TextEncoder().encode(wanted.name).subarray(0, MAX_NAME_BYTES);
  return {
    id,
    name: new TextDecoder().decode(bytes),
    l1TableOffset: l1.offset,
    l1Size: l1.size,
    seconds: wanted.seconds,
    nanoseconds: wanted.nanoseconds,
    vmClockNanoseconds: 0n,
    vmStateSize: 0,
    diskSize,
    hasDiskSize: true,
    icount: 0n,
    stored: { extraData: new Uint8Array(), id: new TextEncoder().encode(id), name: bytes },
  };
}
