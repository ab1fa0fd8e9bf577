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

/** Index of the layer that a name means: as `-b` takes it, else from the working directory. */
export async function findLayer(chain: Chain, name: string): Promise<number | undefined> {
  return (await chain.find(name)) ?? (await chain.findByPath(name));
}

export async function findRange(chain: Chain, options: CommitOptions): Promise<Range> {
  const { storedName } = chain.at(0);
  const notFound = (name: string) =>
    new ImageError('not-found', `Did not find '${name}' in the backing chain of '${storedName}'`);
  if (chain.layers.length === 1) {
    const missing = options.base ?? options.top;
    if (missing !== undefined) throw notFound(missing);
    throw new ImageError('invalid', 'Image does not have a backing file');
  }
  let topIndex = 0;
  if (options.top !== undefined) {
    const found = await findLayer(chain, options.top);
    if (found === undefined) throw notFound(options.top);
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
    const find = options.skipAdvice ? chain.find(options.base) : findLayer(chain, options.base);
    const found = await find;
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
