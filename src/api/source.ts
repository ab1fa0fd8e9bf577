// What an image can be opened from.

import type { Storage } from '../io/storage.ts';

/** A file name, the bytes of an image (not kept, not changed), or a storage. */
export type ImageSource = string | Uint8Array | Storage;
