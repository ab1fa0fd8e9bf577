// What an image can be opened from.

import type { Storage } from '../io/storage.ts';
import type { ImageDescription } from './description.ts';

/** A file name, a description, the bytes of an image (not kept, not changed), or a storage. */
export type ImageSource = string | ImageDescription | Uint8Array | Storage;
