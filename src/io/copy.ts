// Copies bytes from one storage to another: inside the machine as far as it can, the rest through
// a buffer.

import { MIB } from '../units.ts';
import type { Storage } from './storage.ts';

/** The buffer's size. */
const BUFFER = MIB;

interface Place {
  readonly storage: Storage;
  readonly offset: number;
}

/** Copies `length` bytes that start `from` bytes after the source's place. */
export async function copyBytes(
  source: Place,
  from: number,
  target: Place,
  length: number,
): Promise<void> {
  const start = source.offset + from;
  let done = await target.storage.copyFrom(source.storage, start, target.offset, length);
  if (done === length) return;
  const buffer = new Uint8Array(Math.min(BUFFER, length - done));
  while (done < length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, length - done));
    source.storage.event?.('read_aio');
    await source.storage.read(start + done, piece);
    target.storage.event?.('write_aio');
    await target.storage.write(target.offset + done, piece, 'data');
    done += piece.length;
  }
}
