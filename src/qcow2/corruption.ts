// Structures that contradict each other, found while an image is used. Who writes to it notes it in
// the header, so that nobody else writes before it was repaired; who reads tells it alone.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';

/** What was found, in QEMU's words where it has some. */
export class CorruptionError extends ImageError {
  readonly words: string;
  /** The file whose structures they are: the layer below may be the one. */
  readonly storage: Storage;
  /** The image takes no more changes; its header says why, where its version can. */
  marked = false;

  /** `about`: what QEMU does not tell. */
  constructor(
    storage: Storage,
    words: string,
    { hint = REPAIR, about }: { readonly hint?: string; readonly about?: string } = {},
  ) {
    const more = about === undefined ? '' : `: ${about}`;
    super('corrupt', `${storage.filename}: ${words}${more}`, { errno: 'EIO', hint });
    this.words = words;
    this.storage = storage;
  }
}

const REPAIR = `Run 'qemu-img check -r all' on a copy of the image first.`;

/** The one behind an error, however it was told on the way. */
export function corruptionBehind(error: unknown): CorruptionError | undefined {
  for (let each = error; each instanceof Error; each = each.cause) {
    if (each instanceof CorruptionError) return each;
  }
  return undefined;
}

/** As `%#x` prints it. */
export function hex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}
