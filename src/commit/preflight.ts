// Everything that can refuse a commit, before its first write.

import { asQcow2, type Chain, type ChainLayer } from '../chain/chain.ts';
import { allocatedIn } from '../chain/extents.ts';
import type { Relink } from '../chain/relink.ts';
import { ImageError, reworded } from '../errors.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { takeAccess } from './access.ts';
import { checkBase, checkFormat, collect } from './base-checks.ts';
import { growingBitmaps, planBitmaps } from './bitmaps.ts';
import {
  type Found,
  findBystanders,
  neededError,
  siblingsError,
  unreadError,
} from './bystanders.ts';
import { changesBase } from './identical.ts';
import { findLeftBehind } from './left-behind.ts';
import type { CommitOptions, CommitPlan } from './options.ts';
import { type PlanStep, planSteps, shapeOf, untilAborted } from './plan.ts';
import type { Range, Refuse } from './range.ts';
import { Reclaim } from './reclaim.ts';
import { prepareRelinks } from './relinks.ts';
import { describeCopies, prepareSiblings, type SiblingCopy, sharedShortage } from './siblings.ts';
import { type Measured, measure, shortage, spaceError } from './space.ts';

export interface Prepared extends Range {
  readonly plan: CommitPlan;
  readonly relinks: readonly Relink[];
  readonly siblingCopies: readonly SiblingCopy[];
  /** Images outside of the chain that were opened to be changed; the owner closes them. */
  readonly overlays: readonly Chain[];
  /** Who lets go of what base holds, as it goes; null where nobody does before the end. */
  readonly reclaim: Reclaim | null;
  /** What an earlier run was stopped from removing, open; its owner closes it. */
  readonly left: Chain | null;
  readonly steps: () => AsyncIterable<readonly PlanStep[]>;
}

/** Checks all there is to check and plans. Refusals are thrown, or collected for a dry run. */
export async function preflight(range: Range, options: CommitOptions): Promise<Prepared> {
  const { chain, topIndex, baseIndex, top, base } = range;
  const refusals: string[] = [];
  const refuse = (error: ImageError) => {
    if (!options.dryRun) throw error;
    refusals.push(error.hint === undefined ? error.message : `${error.message}\n${error.hint}`);
  };
  checkFormat(range, refuse);
  if (options.compress) checkCompress(range, refuse);
  await checkBase(range, options, refuse);
  options.signal?.throwIfAborted();
  const empties = topIndex === 0 && options.base === undefined && !options.drop;
  if (empties) await checkTop(top, refuse);
  let reclaim = options.reclaim ? await planReclaim(range, options, refuse) : null;

  const { relinks, done, ...opened } = await prepareRelinks(range, options, refuse);
  const overlays = [...opened.overlays];
  let left: Chain | null = null;
  try {
    left = await findLeftBehind(range, options);
    const merged = chain.layers.slice(topIndex, baseIndex);
    const between = merged.slice(1);
    const dead = left?.layers ?? (topIndex > 0 ? merged : between);
    if (options.delete && topIndex === 0 && !options.relink) {
      throw new ImageError('invalid', '--delete: the named image still needs the layers between');
    }
    const deletes = options.delete ? dead : [];
    await checkDeletes(deletes, options, refuse);
    const newBaseSize = Math.max(base.layer.size, top.layer.size);
    const steps = () => planFor(range, relinks, newBaseSize);
    const watched = () => untilAborted(steps(), options.signal);
    const bitmaps = planBitmaps(range, options.bitmaps === true, newBaseSize, refuse);
    const growing = growingBitmaps(range, bitmaps);
    const manner = { compress: options.compress === true, bitmaps: growing };
    // A commit compares as it goes: before, that is worth it only where it decides.
    let skipIdentical = options.skipIdentical === true && options.dryRun === true;
    const measureWith = (how: Reclaim | null) =>
      measure(watched(), base.layer, newBaseSize, { ...manner, skipIdentical }, how);
    const isShort = async (found: Measured) =>
      !options.skipAdvice && (await shortage(options.host, base.layer, found)) !== undefined;
    let measured = await measureWith(reclaim);
    if (options.skipIdentical && !skipIdentical && (await isShort(measured))) {
      skipIdentical = true;
      measured = await measureWith(reclaim);
    }
    for (let finer = reclaim?.finer(); finer; finer = finer.finer()) {
      if (!(await isShort(measured))) break;
      reclaim = finer;
      measured = await measureWith(finer);
    }
    const lost = reclaim === null ? deletes : [...new Set([...deletes, ...between])];
    const parts = { between, lost, overlays, done, steps: watched };
    const { siblings, unread } = await checkSiblings(range, options, parts, refuse);
    const siblingCopies = options.rebaseSiblings
      ? await prepareSiblings({
          ...{ range, siblings, options, newBaseSize, refuse },
          ...{ steps: watched, opened: overlays },
        })
      : [];
    await checkSpace(range, options, { measured, copies: siblingCopies, reclaim }, refuse);
    const plan: CommitPlan = {
      top: top.filename,
      base: base.filename,
      baseFormat: base.layer.format,
      merged: merged.map(({ filename }) => filename),
      ...measured.totals,
      baseSize: base.layer.size,
      newBaseSize,
      rebuildsRefcounts: base.layer instanceof Qcow2Image && base.layer.dirty,
      reclaims: reclaim === null ? [] : merged.map(({ filename }) => filename),
      empties: empties ? top.filename : null,
      relinks: relinks.map(({ overlay, name }) => ({
        overlay: overlay.filename,
        backingFile: name,
      })),
      invalidates: dead.map(({ filename }) => filename),
      deletes: deletes.map(({ filename }) => filename),
      siblings: options.rebaseSiblings ? [] : siblings.map(({ filename }) => filename),
      siblingCopies: describeCopies(siblingCopies),
      unread,
      bitmaps: bitmaps.merges,
      bitmapsLeft: bitmaps.left,
      refusals,
    };
    const prepared = { ...range, plan, relinks, overlays, siblingCopies, reclaim, left, steps };
    // Taken and given back, nothing is written.
    if (options.dryRun) await takeAccess(prepared, (work) => collect(work, refuse));
    return prepared;
  } catch (error) {
    for (const each of [...overlays, ...(left ? [left] : [])]) {
      await each.close().catch(() => undefined);
    }
    throw error;
  }
}

function checkCompress({ base }: Range, refuse: Refuse): void {
  const { layer, filename } = base;
  if (layer instanceof Qcow2Image) {
    const refusal = layer.refusalToCompress;
    if (refusal !== undefined) refuse(refusal);
    return;
  }
  const message = `'${filename}' can't hold compressed clusters: it is no qcow2 image`;
  refuse(new ImageError('unsupported', message));
}

async function checkTop(top: ChainLayer, refuse: Refuse): Promise<void> {
  const image = asQcow2(top.layer);
  const refusal = image.refusalToWrite({ dataUnchanged: true, writable: true });
  if (refusal !== undefined) refuse(refusal);
  else await collect(() => image.verifyToEmpty(), refuse);
}

/** A cluster that is used twice but counted once would be lost to its other user. */
async function planReclaim(range: Range, options: CommitOptions, refuse: Refuse): Promise<Reclaim> {
  const reclaim = await Reclaim.plan(range, options);
  for (const layer of reclaim.layers) {
    const refusal = layer.refusalToWrite({ dataUnchanged: true, writable: true });
    if (refusal !== undefined) {
      refuse(reworded(refusal, `Could not open '${layer.filename}': ${refusal.message}`));
    } else await collect(() => layer.verify(), refuse);
  }
  return reclaim;
}

async function* planFor(
  { chain, topIndex, baseIndex, top, base }: Range,
  relinks: readonly Relink[],
  diskSize: number,
): AsyncGenerator<readonly PlanStep[]> {
  const layers = chain.layers.slice(topIndex, baseIndex).map(({ layer }) => layer);
  const { size } = top.layer;
  yield* planSteps(allocatedIn(layers, 0, size), shapeOf(base.layer, diskSize));
  // A longer overlay saw zeros past top's end; base must not shine through there once it is below.
  const longest = Math.max(0, ...relinks.map(({ overlay }) => overlay.size));
  const end = Math.min(base.layer.size, longest);
  if (end > size) yield [{ kind: 'zero', offset: size, length: end - size }];
}

async function checkDeletes(
  deletes: readonly ChainLayer[],
  { host }: CommitOptions,
  refuse: Refuse,
): Promise<void> {
  for (const { filename } of deletes) {
    if ((await host.identify(filename))?.kind === 'file') continue;
    refuse(new ImageError('invalid', `'${filename}' can't be deleted: it is not a regular file`));
  }
}

async function checkSiblings(
  { chain, topIndex, top, base }: Range,
  options: CommitOptions,
  parts: {
    readonly between: readonly ChainLayer[];
    /** Layers that are removed or emptied. */
    readonly lost: readonly ChainLayer[];
    readonly overlays: readonly Chain[];
    readonly done: readonly string[];
    readonly steps: () => AsyncIterable<readonly PlanStep[]>;
  },
  refuse: Refuse,
): Promise<Pick<Found, 'siblings' | 'unread'>> {
  if (options.skipAdvice) return { siblings: [], unread: [] };
  const { between, lost, overlays, done, steps } = parts;
  const { siblings, needing, unread, failure } = await findBystanders({
    host: options.host,
    chain,
    search: options.search ?? [],
    known: done,
    changing: [base, ...between],
    deleted: lost,
    stable: [...chain.layers.slice(0, topIndex), top, ...overlays.map((each) => each.at(0))],
    signal: options.signal,
    changesBase: () => changesBase(steps(), base.layer),
  });
  const doing = options.delete ? '--delete would remove' : '--reclaim would empty';
  if (failure !== undefined && !options.force) refuse(unreadError(failure, base.filename));
  if (needing.length > 0) refuse(neededError(needing, doing));
  else if (siblings.length > 0 && !options.force && !options.rebaseSiblings) {
    const names = siblings.map(({ filename }) => filename);
    refuse(siblingsError(names, base.filename));
  }
  return { siblings, unread };
}

/** What takes space, and who gives some back. */
interface Needs {
  readonly measured: Measured;
  readonly copies: readonly SiblingCopy[];
  readonly reclaim: Reclaim | null;
}

async function checkSpace(
  { base }: Range,
  options: CommitOptions,
  { measured, copies, reclaim }: Needs,
  refuse: Refuse,
): Promise<void> {
  if (options.force || options.skipAdvice) return;
  const { host } = options;
  let short = await shortage(host, base.layer, measured);
  for (const copy of copies) short ??= await shortage(host, copy.image, copy.measured);
  const all = [{ image: base.layer, measured }, ...copies].map((each) => ({
    filename: each.image.storage.filename,
    needed: each.measured.totals.growthBytes,
  }));
  if (copies.length > 0) short ??= await sharedShortage(host, all);
  if (short === undefined) return;
  const more = copies.length > 0 ? ', with its siblings,' : '';
  refuse(spaceError(base.layer, short, more, adviceOn(reclaim, options)));
}

function adviceOn(reclaim: Reclaim | null, { drop }: CommitOptions): string {
  if (reclaim === null) return drop ? '' : ' With --reclaim it takes less at a time.';
  return reclaim.whyUseless === null ? '' : ` --reclaim is of no use: ${reclaim.whyUseless}.`;
}
