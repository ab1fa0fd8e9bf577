// Everything that can refuse a commit, before its first write.

import { rebaseCommand } from '../chain/advice.ts';
import { asQcow2, type Chain, type ChainLayer } from '../chain/chain.ts';
import { allocatedIn } from '../chain/extents.ts';
import { directoryOf } from '../chain/filename.ts';
import { WRITER } from '../chain/open-qcow2.ts';
import type { Relink } from '../chain/relink.ts';
import { ImageError, reworded } from '../errors.ts';
import { l1EntriesFor } from '../qcow2/geometry.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { checkReachable } from '../qcow2/resize.ts';
import { growingBitmaps, planBitmaps } from './bitmaps.ts';
import { findBystanders, neededError, siblingsError } from './bystanders.ts';
import { changesBase } from './difference.ts';
import type { CommitOptions, CommitPlan } from './options.ts';
import { type PlanStep, planSteps, shapeOf, untilAborted } from './plan.ts';
import type { Range, Refuse } from './range.ts';
import { prepareRelinks } from './relinks.ts';
import { type Measured, measure, shortage } from './space.ts';

export interface Prepared extends Range {
  readonly plan: CommitPlan;
  readonly relinks: readonly Relink[];
  /** Images outside of the chain that were opened for relinking; the owner closes them. */
  readonly overlays: readonly Chain[];
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
  await checkBase(range, refuse);
  options.signal?.throwIfAborted();
  const empties = topIndex === 0 && options.base === undefined && !options.drop;
  if (empties) await checkTop(top, refuse);

  const { relinks, overlays, done } = await prepareRelinks(range, options, refuse);
  try {
    const merged = chain.layers.slice(topIndex, baseIndex);
    const between = merged.slice(1);
    const dead = topIndex > 0 ? merged : between;
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
    const measured = await measure(watched(), base.layer, newBaseSize, {
      compress: options.compress === true,
      bitmaps: growing,
    });
    const parts = { between, deleted: deletes, overlays, done, steps: watched };
    const siblings = await checkSiblings(range, options, parts, refuse);
    await checkSpace(range, options, measured, refuse);
    if (options.dryRun) await checkAccess(range, relinks, refuse);
    const plan: CommitPlan = {
      top: top.filename,
      base: base.filename,
      baseFormat: base.layer.format,
      merged: merged.map(({ filename }) => filename),
      ...measured.totals,
      baseSize: base.layer.size,
      newBaseSize,
      rebuildsRefcounts: base.layer instanceof Qcow2Image && base.layer.dirty,
      empties: empties ? top.filename : null,
      relinks: relinks.map(({ overlay, name }) => ({
        overlay: overlay.filename,
        backingFile: name,
      })),
      invalidates: dead.map(({ filename }) => filename),
      deletes: deletes.map(({ filename }) => filename),
      siblings,
      bitmaps: bitmaps.merges,
      bitmapsLeft: bitmaps.left,
      refusals,
    };
    return { ...range, plan, relinks, overlays, steps };
  } catch (error) {
    for (const overlay of overlays) await overlay.close().catch(() => undefined);
    throw error;
  }
}

/** What a guest wrote into a raw disk can look like an image: a probed format is not written to. */
function checkFormat({ chain, baseIndex, base }: Range, refuse: Refuse): void {
  if (base.formatKnown) return;
  const overlay = chain.at(baseIndex - 1).filename;
  const { format } = base.layer;
  refuse(
    new ImageError(
      'invalid',
      `'${overlay}' does not store the format of its backing file '${base.storedName}', ` +
        `and a guessed format (${format}) is not written to`,
      {
        hint:
          'If that is its format, store it with: ' +
          rebaseCommand(overlay, base.storedName, format),
      },
    ),
  );
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

async function checkBase({ top, base }: Range, refuse: Refuse): Promise<void> {
  const { layer } = base;
  const grows = top.layer.size > layer.size;
  if (layer instanceof Qcow2Image) {
    const refusal = layer.refusalToWrite({ dataUnchanged: false, writable: true });
    if (refusal !== undefined) {
      refuse(reworded(refusal, `Could not open '${base.filename}': ${refusal.message}`));
    } else await collect(() => layer.verify(), refuse);
    const why = grows ? await layer.whyFixedSize(top.layer.size) : null;
    if (why !== null) refuse(sizeError(base, top, why));
    if (grows) {
      const entries = l1EntriesFor(top.layer.size, layer.geometry);
      await collect(async () => checkReachable(base.filename, entries), refuse);
    }
  } else if (grows && !layer.storage.resizable) {
    refuse(sizeError(base, top, 'it is a device'));
  }
}

/** What it throws is a refusal. */
async function collect(work: () => Promise<void>, refuse: Refuse): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    refuse(error);
  }
}

/** Locks and permissions: taken and given back, nothing is written. */
async function checkAccess(
  { chain, base }: Range,
  relinks: readonly Relink[],
  refuse: Refuse,
): Promise<void> {
  const written = [chain.at(0).layer, base.layer, ...relinks.map(({ overlay }) => overlay)];
  for (const { storage } of new Set(written)) {
    await collect(() => storage.makeWritable(WRITER.use, WRITER.share), refuse);
  }
}

function sizeError(base: ChainLayer, top: ChainLayer, why: string): ImageError {
  return new ImageError(
    'invalid',
    `'${base.filename}' has ${base.layer.size} bytes, '${top.filename}' has ${top.layer.size}, ` +
      `and the base can't grow: ${why}`,
  );
}

async function checkTop(top: ChainLayer, refuse: Refuse): Promise<void> {
  const image = asQcow2(top.layer);
  const refusal = image.refusalToWrite({ dataUnchanged: true, writable: true });
  if (refusal !== undefined) refuse(refusal);
  else await collect(() => image.verifyToEmpty(), refuse);
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
    readonly deleted: readonly ChainLayer[];
    readonly overlays: readonly Chain[];
    readonly done: readonly string[];
    readonly steps: () => AsyncIterable<readonly PlanStep[]>;
  },
  refuse: Refuse,
): Promise<readonly string[]> {
  if (options.skipAdvice) return [];
  const { between, deleted, overlays, done, steps } = parts;
  const { siblings, needing } = await findBystanders({
    host: options.host,
    chain,
    search: options.search ?? [],
    known: done,
    changing: [base, ...between],
    deleted,
    stable: [...chain.layers.slice(0, topIndex), top, ...overlays.map((each) => each.at(0))],
    changesBase: () => changesBase(steps(), base.layer),
  });
  if (needing.length > 0) refuse(neededError(needing));
  else if (siblings.length > 0 && !options.force) refuse(siblingsError(siblings, base.filename));
  return siblings;
}

async function checkSpace(
  { base }: Range,
  options: CommitOptions,
  measured: Measured,
  refuse: Refuse,
): Promise<void> {
  if (options.force || options.skipAdvice) return;
  const short = await shortage(options.host, base.layer, measured);
  if (short === undefined) return;
  const place = base.layer.storage.resizable
    ? `in '${directoryOf(short.filename) || './'}', and`
    : 'on the device, where';
  refuse(
    new ImageError(
      'no-space',
      `'${short.filename}' needs ${short.needed} bytes more ${place} ${short.free} are free`,
      { errno: 'ENOSPC', hint: 'Make room, or use --force to try all the same.' },
    ),
  );
}
