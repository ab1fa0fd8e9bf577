// Which layers of a chain a commit is about: top and base by the names that the user gave.

import type { Chain, ChainLayer } from '../chain/chain.ts';
import { ImageError } from '../errors.ts';
import type { CommitOptions } from './options.ts';

/** The layers that a commit is about. Indexes count from the chain's top. */
export interface Range {
  readonly chain: Chain;
  readonly topIndex: number;
  readonly baseIndex: number;
  readonly top: ChainLayer;
  readonly base: ChainLayer;
}

const DONE_ALREADY =
  'The image stands on that base already. Where an earlier run of the same command was stopped at ' +
  'its very end, all that is left is to remove the files of the merged layers.';

export async function findRange(chain: Chain, options: CommitOptions): Promise<Range> {
  const { filename } = chain.at(0);
  if (chain.layers.length === 1) {
    throw new ImageError('invalid', 'Image does not have a backing file');
  }
  const notFound = (name: string, hint?: string) =>
    new ImageError('not-found', `Did not find '${name}' in the backing chain of '${filename}'`, {
      ...(hint !== undefined && { hint }),
    });
  const find = async (name: string) => (await chain.find(name)) ?? (await chain.findByPath(name));
  let topIndex = 0;
  if (options.top !== undefined) {
    const found = await find(options.top);
    if (found === undefined) {
      const standsOnBase = options.base !== undefined && (await find(options.base)) === 1;
      throw notFound(options.top, standsOnBase ? DONE_ALREADY : undefined);
    }
    topIndex = found;
    if (found === 0 && options.overlays?.length) {
      throw new ImageError(
        'invalid',
        `'${options.top}' is the named image itself: it has no overlays to relink`,
      );
    }
  }
  let baseIndex = topIndex + 1;
  if (options.base !== undefined) {
    const found = options.skipAdvice ? await chain.find(options.base) : await find(options.base);
    if (found === undefined || found <= topIndex) throw notFound(options.base);
    baseIndex = found;
  }
  if (baseIndex >= chain.layers.length) {
    throw new ImageError(
      'invalid',
      `'${chain.at(topIndex).filename}' does not have a backing file`,
    );
  }
  return { chain, topIndex, baseIndex, top: chain.at(topIndex), base: chain.at(baseIndex) };
}

/** Hears of a reason against the commit: throws it, or collects it for a dry run. */
export type Refuse = (error: ImageError) => void;
