// Space taken before anybody needs it: zeros that are stored, or room that the file system sets aside.

import { MIB } from '../units.ts';
import type { Storage } from './storage.ts';

/** `falloc`: room only. `full`: zeros are written, as a later write would be. */
export type Reserve = 'falloc' | 'full';

const PIECE = MIB;

/** Takes space for a range that reads as zeros, or lies past the end, and still does afterwards. */
export async function reserve(
  storage: Storage,
  offset: number,
  length: number,
  how: Reserve,
): Promise<void> {
  if (how === 'falloc' && (await storage.allocate?.(offset, length))) return;
  const zeros = new Uint8Array(Math.min(PIECE, length));
  for (let done = 0; done < length; done += PIECE) {
    const piece = zeros.subarray(0, Math.min(PIECE, length - done));
    await storage.write(offset + done, piece, 'data');
  }
}
