// Clusters mapped before the guest writes to them, through the ordered write path: all of a new disk,
// or what a disk grows by.

import { reserve } from '../io/reserve.ts';
import { alignUp, MIB } from '../units.ts';
import type { Qcow2Image } from './image.ts';
import type { Mover, WriteAs } from './writer.ts';

/**
 * What is there before the guest writes. `metadata`: every cluster is mapped and counted, the file
 * has its length but no space. `falloc`: space is set aside too. `full`: zeros are written.
 */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

export interface Preallocating {
  /** What the new area has from the start. Default `off`. */
  readonly preallocation?: Preallocation;
}

/** Tables that are dirty at once stay few. */
const LEAST_PIECE = 16 * MIB;

/**
 * For an image without data and without a backing file: its disk reads as zeros, and still will.
 * With subclusters it will have none, and what gets below it is seen.
 */
export async function preallocate(image: Qcow2Image, mode: Preallocation): Promise<void> {
  if (mode === 'off') return;
  for (const [offset, length] of pieces(image, 0, image.size)) {
    await image.reserve(offset, length, reserver(image, mode));
  }
}

/**
 * What a disk that is about to grow to `size` gets behind its end, where nothing is mapped but zeros:
 * it reads as zeros, and still will.
 */
export async function preallocateNew(
  image: Qcow2Image,
  size: number,
  wanted: Preallocation,
): Promise<void> {
  // Who reads the data file alone must not depend on the map.
  const mode = wanted === 'off' && image.data.raw ? 'metadata' : wanted;
  if (mode === 'off') return;
  const { clusterSize, size: old } = image;
  const as = mannerFor(image, mode);
  const bodyStart = Math.min(alignUp(old, clusterSize), size);
  // The cluster that the disk ends in so far holds some of it.
  if (bodyStart > old && (await isEmptyBefore(image, old))) {
    const head = as === 'zero' ? 'reserved' : as;
    await image.reserve(old, bodyStart - old, moverFor(image, mode, head, old), head, size);
  }
  for (const [offset, length] of pieces(image, bodyStart, size)) {
    await image.reserve(offset, length, moverFor(image, mode, as, offset), as, size);
  }
}

/** Whole L2 tables, where it goes. */
function* pieces(
  { geometry }: Qcow2Image,
  from: number,
  to: number,
): Generator<readonly [offset: number, length: number]> {
  const { l2Coverage } = geometry;
  const piece = alignUp(Math.max(LEAST_PIECE, l2Coverage), l2Coverage);
  for (let offset = from; offset < to; ) {
    const end = Math.min(to, alignUp(offset + 1, piece));
    yield [offset, end - offset];
    offset = end;
  }
}

/** How new clusters are mapped, so that they read as zeros. */
function mannerFor({ geometry, header, data, backing, size }: Qcow2Image, mode: string): WriteAs {
  const hides = (backing?.size ?? 0) > size;
  // Zeros are stored, but for `metadata`. Subclusters have their zero flags already.
  if (geometry.extendedL2) return hides && mode !== 'metadata' ? 'data' : 'reserved';
  const flagged = data.opaque || (hides && mode === 'metadata');
  return flagged && header.version >= 3 ? 'zero' : 'reserved';
}

/** Nothing of the cluster that the disk ends in has a place in the file. */
async function isEmptyBefore(image: Qcow2Image, end: number): Promise<boolean> {
  const start = end - (end % image.clusterSize);
  const extents = await image.layout(start, end - start);
  return extents.every(({ kind, host }) => kind !== 'data' && !host);
}

function moverFor(
  image: Qcow2Image,
  mode: Exclude<Preallocation, 'off'>,
  as: WriteAs,
  at: number,
): Mover {
  const { data, geometry } = image;
  const stored = as === 'data' || (as === 'reserved' && !geometry.extendedL2);
  if (!data.opaque || !stored) return reserver(image, mode);
  // What decrypts to zeros is none.
  return async (host, from, length) => {
    const zeros = new Uint8Array(Math.min(MIB, length));
    for (let done = 0; done < length; done += MIB) {
      const piece = zeros.subarray(0, Math.min(MIB, length - done));
      await data.write(host + done, at + from + done, piece);
    }
  };
}

function reserver({ data, clusterSize }: Qcow2Image, mode: Exclude<Preallocation, 'off'>): Mover {
  const { storage, external } = data;
  return async (host, _from, part) => {
    // The last cluster of the disk has its whole length in the image's own file.
    const whole = external ? part : alignUp(host + part, clusterSize) - host;
    if (mode === 'metadata') await storage.zero(host, whole, 'data');
    else await reserve(storage, host, whole, mode);
  };
}
