// Comparing what two chains show.

import { compareChains as compareInEngine } from '../chain/compare.ts';
import { CompareError } from '../chain/compare-pieces.ts';
import { reworded } from '../errors.ts';
import type { Cancellable, Chain } from './chain.ts';
import { engineOf } from './engine-chain.ts';
import { checkNothingBelow } from './extents.ts';

/** How {@link compareChains} compares. */
export interface CompareOptions extends Cancellable {
  /**
   * The sizes must be the same too, and in each range so must its {@link BlockStatus}: kind, whether
   * it has a place in a file, whether any layer holds it. Default false.
   */
  readonly strict?: boolean;
  /** Told after each piece of at most 2 GiB. */
  readonly onProgress?: (progress: CompareProgress) => void;
}

/** How far a comparison is. */
export interface CompareProgress {
  /** Bytes of the larger disk that have been compared so far. */
  readonly done: number;
  /** Size of the larger disk in bytes. */
  readonly total: number;
}

/**
 * What {@link compareChains} found: the first difference in the order of the disk.
 *
 * - `identical`: none.
 * - `content`: other bytes, first in the sector (512 bytes) at `offset`.
 * - `size`: other sizes; of a strict comparison alone, which then looks no further.
 * - `status`: other allocation, first in the range at `offset`; of a strict comparison alone.
 */
export type Comparison =
  | { readonly kind: 'identical' }
  | { readonly kind: 'content'; readonly offset: number }
  | { readonly kind: 'size' }
  | { readonly kind: 'status'; readonly offset: number };

/**
 * Whether the guest sees the same through both chains, whatever their formats and layers. A disk
 * that is longer shows the same where the rest of it reads as zeros. What reads as zeros on both
 * sides is not read. Stops at the first difference.
 *
 * Rejects with `corrupt`, `unsupported` or `io` where one can't be read: the message names its top
 * and the place; with `invalid` for a chain that `openChain` or `createImage` did not make, or whose
 * backing files are not open.
 *
 * Source: what `qemu-img compare` does, with `-s` where it is strict.
 */
export async function compareChains(
  a: Chain,
  b: Chain,
  options: CompareOptions = {},
): Promise<Comparison> {
  const { strict = false, signal, onProgress } = options;
  signal?.throwIfAborted();
  const chains = [engineOf(a), engineOf(b)] as const;
  for (const { layers } of chains) checkNothingBelow(layers.map(({ layer }) => layer));
  const tops = [a.layers[0], b.layers[0]] as const;
  try {
    const { result, ...where } = await compareInEngine(...chains, {
      strict,
      ...(signal && { signal }),
      ...(onProgress && { onProgress: (done, total) => onProgress({ done, total }) }),
    });
    return { kind: result, ...where } as Comparison;
  } catch (error) {
    if (!(error instanceof CompareError)) throw error;
    const { filename } = tops[error.side];
    throw reworded(error, `Could not compare '${filename}' at ${error.offset}: ${error.message}`);
  }
}
