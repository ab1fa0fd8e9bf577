// A commit of inner layers that was stopped at its very end, and is run again: its overlays stand on
// base already, so that the merged layers are no part of the chain any more. Nothing but removing
// their files may be left to do.

import type { Chain, ChainLayer } from '../chain/chain.ts';
import { allocatedIn } from '../chain/extents.ts';
import { hostFileOf, resolveName } from '../chain/filename.ts';
import { openChain } from '../chain/open.ts';
import type { Host } from '../io/host.ts';
import { findBystanders, neededError } from './bystanders.ts';
import { changesBase } from './difference.ts';
import type { CommitOptions, CommitPlan } from './options.ts';
import { planSteps, shapeOf, untilAborted } from './plan.ts';
import { findLayer } from './range.ts';
import { backingOf } from './relinks.ts';

export interface Finished {
  /** From the merged top down; close it in the end. */
  readonly chain: Chain;
  readonly plan: CommitPlan;
}

/**
 * What is left of such a commit; undefined where it is none. It is taken for one only if base holds,
 * byte for byte, what the merged layers hold.
 */
export async function findFinished(
  chain: Chain,
  options: CommitOptions,
): Promise<Finished | undefined> {
  const { host, top, base, secrets } = options;
  if (top === undefined || base === undefined) return undefined;
  if ((await findLayer(chain, top)) !== undefined) return undefined;
  const index = await findLayer(chain, base);
  const file = await existing(host, [top, resolveName(chain.at(0).filename, top)]);
  if (index === undefined || index === 0 || file === undefined) return undefined;
  const merged = await openChain(file, { host, ...(secrets !== undefined && { secrets }) });
  try {
    const found = await whatIsLeft(merged, chain.at(index), options);
    if (found === undefined) await merged.close();
    return found;
  } catch (error) {
    await merged.close();
    throw error;
  }
}

async function existing(host: Host, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    const file = hostFileOf(name);
    if ((await host.identify(file))?.kind === 'file') return file;
  }
  return undefined;
}

async function whatIsLeft(
  chain: Chain,
  { id, layer: base, filename }: ChainLayer,
  options: CommitOptions,
): Promise<Finished | undefined> {
  const { host, overlays = [], search = [] } = options;
  const dead = chain.layers.slice(
    0,
    Math.max(
      0,
      chain.layers.findIndex((each) => each.id === id),
    ),
  );
  if (dead.length === 0 || base.size < chain.size) return undefined;
  for (const name of overlays) if ((await backingOf(name, host)) !== id) return undefined;
  const layers = dead.map(({ layer }) => layer);
  const steps = planSteps(allocatedIn(layers, 0, chain.size), shapeOf(base, base.size));
  if (await changesBase(untilAborted(steps, options.signal), base)) return undefined;
  const names = dead.map((each) => each.filename);
  if (options.delete) {
    const scene = { host, chain, search, known: [], changing: [], deleted: dead, stable: [] };
    const { needing } = await findBystanders({ ...scene, changesBase: async () => false });
    if (needing.length > 0) throw neededError(needing, '--delete would remove');
  }
  const plan: CommitPlan = {
    top: chain.at(0).filename,
    base: filename,
    baseFormat: base.format,
    merged: names,
    ranges: 0,
    copyBytes: 0,
    zeroBytes: 0,
    growthBytes: 0,
    peakBytes: 0,
    baseSize: base.size,
    newBaseSize: base.size,
    rebuildsRefcounts: false,
    reclaims: [],
    empties: null,
    relinks: [],
    invalidates: names,
    deletes: options.delete ? names : [],
    siblings: [],
    siblingCopies: [],
    unread: [],
    bitmaps: [],
    bitmapsLeft: [],
    refusals: [],
  };
  return { chain, plan };
}
