// A commit of inner layers that was stopped at its very end, and is run again: its overlays stand on
// base already, so that the merged layers are no part of the chain any more. Nothing but removing
// their files may be left to do.

import { Chain, type ChainLayer } from '../chain/chain.ts';
import { allocatedIn } from '../chain/extents.ts';
import { fileBehind } from '../chain/file-behind.ts';
import { hostFileOf, resolveName } from '../chain/filename.ts';
import { type OpenChainOptions, openChain } from '../chain/open.ts';
import type { Host } from '../io/host.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { findBystanders, neededError, unreadError } from './bystanders.ts';
import { changesBase } from './identical.ts';
import type { CommitOptions, CommitPlan } from './options.ts';
import { planSteps, shapeOf, untilAborted } from './plan.ts';
import { findLayer } from './range.ts';
import { backingOf } from './relinks.ts';

export interface Finished {
  /** The merged layers that are left, from the top down; close it in the end. */
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
  const { host, top, secrets } = options;
  if (top === undefined || options.base === undefined) return undefined;
  if ((await findLayer(chain, top)) !== undefined) return undefined;
  const index = await findLayer(chain, options.base);
  const file = await existing(host, [top, resolveName(chain.at(0).filename, top)]);
  if (index === undefined || index === 0 || file === undefined) return undefined;
  const base = chain.at(index);
  const merged = await openMerged(file, base.id, { host, ...(secrets && { secrets }) });
  try {
    const found = await whatIsLeft(merged, base, options);
    if (found === undefined) await merged.close();
    return found;
  } catch (error) {
    await merged.close();
    throw error;
  }
}

/**
 * The merged layers from `file` down to above base, each by itself, as far as there are files: the
 * run before may have been stopped while it removed them. None where they never led to base.
 */
export async function openMerged(
  file: string,
  baseId: string,
  options: Pick<OpenChainOptions, 'host' | 'secrets'>,
): Promise<Chain> {
  const { host } = options;
  const layers: ChainLayer[] = [];
  const chain = new Chain(layers, host);
  try {
    let id = await idOf(host, file);
    for (let next: string = file; id !== undefined && id !== baseId; ) {
      const opened: Chain = await openChain(next, { ...options, single: true });
      const isLoop = layers.some((layer) => layer.id === id);
      layers.push(opened.at(0));
      const below: string | null = isLoop ? null : backingFileOf(opened.at(0));
      if (below === null) {
        await chain.close();
        return new Chain([], host);
      }
      id = await idOf(host, below);
      next = below;
    }
    return chain;
  } catch (error) {
    await chain.close();
    throw error;
  }
}

function backingFileOf({ layer, filename }: ChainLayer): string | null {
  const name = layer instanceof Qcow2Image ? layer.header.backingFile : null;
  return name === null ? null : fileBehind(filename, name);
}

async function idOf(host: Host, file: string): Promise<string | undefined> {
  return (await host.identify(file))?.id;
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
  const dead = chain.layers;
  if (dead.length === 0 || base.size < chain.size) return undefined;
  for (const name of overlays) if ((await backingOf(name, host)) !== id) return undefined;
  const layers = dead.map(({ layer }) => layer);
  const steps = planSteps(allocatedIn(layers, 0, chain.size), shapeOf(base, base.size));
  if (await changesBase(untilAborted(steps, options.signal), base)) return undefined;
  const names = dead.map((each) => each.filename);
  if (options.delete) {
    const scene = { host, chain, search, known: [], changing: [], deleted: dead, stable: [] };
    const changesBase = async () => false;
    const { needing, failure } = await findBystanders({ ...scene, changesBase });
    if (failure !== undefined) throw unreadError(failure, filename);
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
    identicalBytes: null,
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
