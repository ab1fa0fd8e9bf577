// Another size for the disk at the top of a chain: everything that can refuse is asked before the
// first write.

import { ImageError, withState } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { Preallocation } from '../qcow2/preallocate.ts';
import { growthBySize, refusalToResize, resizeImage } from '../qcow2/resize-image.ts';
import { RawImage } from '../raw/raw.ts';
import {
  refusalToResizeRaw,
  resizeRaw,
  unsupportedOnDevices,
  whileReserving,
} from '../raw/resize.ts';
import type { Chain } from './chain.ts';

export interface ResizeTopOptions {
  readonly host: Host;
  readonly preallocation: Preallocation;
  /** Goes ahead where the space may not be enough. */
  readonly force: boolean;
}

/** The chain is open for writing, its top in a format that is known. Durable when it resolves. */
export async function resizeTop(
  { top }: Chain,
  size: number,
  options: ResizeTopOptions,
): Promise<void> {
  try {
    if (top instanceof Qcow2Image) await resizeQcow2(top, size, options);
    else if (top instanceof RawImage) await resizeRawImage(top, size, options);
  } catch (error) {
    throw error instanceof Refusal ? error : withState(error, STATE);
  }
}

const STATE =
  'The disk has its old size or the new one, and what was there is unchanged; ' +
  'once the cause is gone, the same command completes it.';

async function resizeQcow2(
  top: Qcow2Image,
  size: number,
  { host, preallocation, force }: ResizeTopOptions,
): Promise<void> {
  const reserves = preallocation === 'falloc' || preallocation === 'full';
  const refusal = (await refusalToResize(top, size)) ?? top.refusalToWrite(WRITES);
  if (refusal !== undefined) throw refusal;
  if (reserves && !top.storage.resizable) throw onDevice(preallocation);
  if (!force && size > top.size) await checkSpace(top, size, preallocation, host);
  await top.verify();
  await resizeImage(top, size, preallocation).catch((error: unknown) => {
    throw inWords(error, preallocation);
  });
}

async function resizeRawImage(
  top: RawImage,
  size: number,
  { host, preallocation, force }: ResizeTopOptions,
): Promise<void> {
  const reserves = preallocation === 'falloc' || preallocation === 'full';
  const refusal = refusalToResizeRaw(top, size, preallocation);
  if (refusal !== undefined) throw refusal;
  if (!force && reserves) await check(host, top.filename, size - top.storage.size);
  await resizeRaw(top, size, preallocation);
}

/** Has its own advice. */
class Refusal extends ImageError {}

function onDevice(preallocation: Preallocation): ImageError {
  const message = `Failed to resize underlying file: ${unsupportedOnDevices(preallocation)}`;
  return new ImageError('unsupported', message, { errno: 'ENOTSUP' });
}

const WRITES = { dataUnchanged: false } as const;

async function checkSpace(
  image: Qcow2Image,
  size: number,
  preallocation: Preallocation,
  host: Host,
): Promise<void> {
  if (!image.storage.resizable) return;
  const { counter, dataFileBytes } = await growthBySize(image, size, preallocation);
  if (dataFileBytes > 0) await check(host, image.data.storage.filename, dataFileBytes);
  const needed = await counter.bytes();
  const free = await host.freeSpace(image.filename);
  if (free === undefined || needed <= free) return;
  // Free clusters inside the file are used first; those that are holes save nothing.
  const { inFile, beyond } = await image.freeClusters();
  const { storage, clusterSize } = image;
  const holes = Math.max(0, storage.size - ((await storage.allocatedBytes()) ?? 0));
  const reusable = Math.max(0, inFile * clusterSize - holes);
  const least = Math.max(0, (await counter.bytes(inFile + beyond)) - reusable);
  if (least > free) throw tooLittle(image.filename, least, free);
}

async function check(host: Host, filename: string, needed: number): Promise<void> {
  const free = await host.freeSpace(filename);
  if (free !== undefined && needed > free) throw tooLittle(filename, needed, free);
}

function tooLittle(filename: string, needed: number, free: number): ImageError {
  return new Refusal('no-space', `'${filename}' needs ${needed} bytes more, and ${free} are free`, {
    errno: 'ENOSPC',
    hint: 'Make room, or use --force to try all the same.',
  });
}

function inWords(error: unknown, preallocation: Preallocation): unknown {
  if (preallocation !== 'falloc' && preallocation !== 'full') return error;
  const told = whileReserving(error, preallocation);
  if (told === error || !(told instanceof ImageError)) return error;
  const message = `Failed to resize underlying file: ${told.message}`;
  return new ImageError(told.code, message, { cause: error, errno: told.errno ?? 'ENOSPC' });
}
