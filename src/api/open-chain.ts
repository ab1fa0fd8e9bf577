// Opening images.

import type { Chain, OpenOptions } from './chain.ts';
import { openEngine, wrap } from './engine-chain.ts';
import { namesFor } from './located.ts';
import type { ImageSource } from './source.ts';

/**
 * Opens an image and its backing files.
 *
 * `source` is a file name, an {@link ImageDescription}, the bytes of an image, or a {@link Storage}
 * (of yours, perhaps), which the chain then owns and closes, also where opening fails. Rejects with
 * `not-found`, `format`, `corrupt`, `unsupported`, `busy` (another process holds an image),
 * `read-only` (the top can't be written, and that was asked for), `invalid` (a description or an
 * option that makes no sense, a backing file that leads back into the chain, more than 1,000 layers)
 * or `io`.
 *
 * Sources: the specification's "Header" (backing_file_offset) and "Header extensions" (backing file
 * format name).
 */
export async function openChain(source: ImageSource, options: OpenOptions = {}): Promise<Chain> {
  return wrap(await openEngine(source, options), namesFor(source));
}
