// Zeros on a disk, as a client wants them: with or without their space, and not slower than writing.

import { ImageError } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, alignUp, MIB } from '../units.ts';

export interface ZeroManner {
  /** The range need not keep the space that it has. */
  readonly mayPunch: boolean;
  /** Rejects with `ENOTSUP` rather than writing zeros as data. */
  readonly fast: boolean;
}

/** Zeros that are written as data go in pieces of this size. */
const PIECE = MIB;

export async function zeroIn(
  layer: Layer,
  offset: number,
  length: number,
  { mayPunch, fast }: ZeroManner,
): Promise<void> {
  if (fast && !isFast(layer, offset, length)) throw notFast();
  if (mayPunch) await layer.zero(offset, length);
  else await zeroKeeping(layer, offset, length, fast);
}

const notFast = () =>
  new ImageError('unsupported', 'Zeros would have to be written as data', { errno: 'ENOTSUP' });

/** True where the map can say it: for whole clusters. Of other files, nobody knows beforehand. */
function isFast(layer: Layer, offset: number, length: number): boolean {
  if (!(layer instanceof Qcow2Image) || layer.header.version < 3) return false;
  const end = offset + length;
  const last = end === layer.size ? end : alignDown(end, layer.clusterSize);
  return alignUp(offset, layer.clusterSize) < last;
}

/** What has space keeps it: zeros are written there. The rest need not get any. */
async function zeroKeeping(
  layer: Layer,
  offset: number,
  length: number,
  fast: boolean,
): Promise<void> {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    for (const { kind, host, length: run } of await layer.extents(at, end - at)) {
      if (kind === 'data') {
        if (fast) throw notFast();
        await writeZeros(layer, at, run);
      } else if (kind === 'unallocated' || host === undefined) await layer.zero(at, run);
      at += run;
    }
  }
}

async function writeZeros(layer: Layer, offset: number, length: number): Promise<void> {
  const zeros = new Uint8Array(Math.min(PIECE, length));
  for (let done = 0; done < length; done += PIECE) {
    await layer.write(offset + done, zeros.subarray(0, Math.min(PIECE, length - done)));
  }
}
