// Bitmap tables: where the bits of a persistent bitmap lie, cluster by cluster of them.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { divideUp } from '../units.ts';
import { runsOfBits, type Stretch } from './bitmap-bits.ts';
import { type BitmapEntry, bitmapDiskSize, bitmapTableEntries } from './bitmap-directory.ts';
import { viewOf } from './fields.ts';
import { clusterOffset } from './l2-entry.ts';

/** Table entries that are no offset of a cluster. */
export const ALL_ZEROS = 0;
export const ALL_ONES = 1;

/** What an entry says: `ALL_ZEROS`, `ALL_ONES`, or the offset of a cluster; undefined if nonsense. */
export function decodeTableEntry(
  high: number,
  low: number,
  clusterSize: number,
): number | undefined {
  if (high === 0 && low === 0) return ALL_ZEROS;
  const offset = clusterOffset(high, low);
  if (high & 0xff00_0000 || low & 0x1fe) return undefined;
  if (offset === 0) return low & 1 ? ALL_ONES : ALL_ZEROS;
  return low & 1 || offset % clusterSize !== 0 || !Number.isSafeInteger(offset)
    ? undefined
    : offset;
}

type Where = Pick<BitmapEntry, 'name' | 'tableOffset' | 'tableEntries'>;

/** The whole table: 8 MiB at most by the limits of the directory. Throws `corrupt`. */
export async function readBitmapTable(
  storage: Storage,
  { name, tableOffset, tableEntries }: Where,
  clusterSize: number,
): Promise<Float64Array> {
  const bytes = new Uint8Array(tableEntries * 8);
  await storage.read(tableOffset, bytes);
  const view = viewOf(bytes);
  const table = new Float64Array(tableEntries);
  for (let i = 0; i < tableEntries; i++) {
    const entry = decodeTableEntry(view.getUint32(i * 8), view.getUint32(i * 8 + 4), clusterSize);
    if (entry === undefined) {
      throw new ImageError(
        'corrupt',
        `Could not read bitmap_table table from image for bitmap '${name}': Invalid argument`,
        { errno: 'EINVAL' },
      );
    }
    table[i] = entry;
  }
  return table;
}

/** Throws `corrupt` where the table of a bitmap that claims to be right can't be. */
export async function checkBitmapTable(
  storage: Storage,
  entry: BitmapEntry,
  diskSize: number,
  clusterSize: number,
): Promise<void> {
  if (entry.inUse) return;
  await readBitmapTable(storage, entry, clusterSize);
  if (entry.tableEntries === bitmapTableEntries(diskSize, entry.granularity, clusterSize)) return;
  throw new ImageError(
    'corrupt',
    `Could not read bitmap '${entry.name}' from image: Invalid argument`,
  );
}

/** What a stored bitmap calls dirty, in ascending order, a batch for each cluster of bits. */
export async function* storedStretches(
  storage: Storage,
  entry: BitmapEntry,
  size: number,
  clusterSize: number,
): AsyncGenerator<Iterable<Stretch>> {
  const table = await readBitmapTable(storage, entry, clusterSize);
  const { granularity } = entry;
  const perEntry = clusterSize * 8;
  const bits = divideUp(bitmapDiskSize(size), granularity);
  const bytes = new Uint8Array(clusterSize);
  for (const [i, place] of table.entries()) {
    const first = i * perEntry;
    const count = Math.min(perEntry, bits - first);
    if (place === ALL_ZEROS || count <= 0) continue;
    if (place === ALL_ONES) yield [[first * granularity, (first + count) * granularity]];
    else {
      await storage.read(place, bytes);
      yield scaled(runsOfBits(bytes, count), first, granularity);
    }
  }
}

function* scaled(runs: Iterable<Stretch>, first: number, granularity: number): Generator<Stretch> {
  for (const [from, to] of runs) yield [(first + from) * granularity, (first + to) * granularity];
}
