// Commit, offline: merges the layers from top to above base into base.
//
// The order, each step durable before the next begins: base holds everything; then overlays are
// relinked; then the top is emptied, or the layers that nobody needs are removed. Whatever stops
// it, whenever, the guest's view through the top stays. Reclaiming brings the last step forward, part
// by part (reclaim.ts): each in this order.

import type { Chain } from '../chain/chain.ts';
import { type ChainTarget, openChain } from '../chain/open.ts';
import { relink } from '../chain/relink.ts';
import { ImageError } from '../errors.ts';
import { RateLimit } from '../io/throttle.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { invalidate, takeAccess } from './access.ts';
import { growOptions } from './base-checks.ts';
import { settleBitmaps } from './bitmaps.ts';
import { type CopyOptions, carryOut } from './copy.ts';
import { type Finished, findFinished } from './finished.ts';
import { differing, layersFrom, type Plan } from './identical.ts';
import { checkLeftBehind, forgetLeftBehind } from './left-behind.ts';
import { type CommitOptions, type CommitPlan, type CommitResult, checkOptions } from './options.ts';
import { type Prepared, preflight } from './preflight.ts';
import { Meter } from './progress.ts';
import { findRange } from './range.ts';
import { copiedBytes, fillSiblings } from './siblings.ts';
import { EmptyError, emptyError, jobError, removalError, untouched } from './stopped.ts';
import { windowsOf } from './windows.ts';

/**
 * Merges the layers `top .. above base` of the chain of `target` into base.
 *
 * Rejects with an ImageError, everything as it was, where something speaks against it; with an
 * ImageError whose message starts with `Block job failed` where an I/O error stopped it half-way;
 * with the signal's reason where it was cancelled. In the last two cases base is consistent, the
 * view through the top unchanged, and another run completes the commit.
 */
export async function commit(target: ChainTarget, options: CommitOptions): Promise<CommitResult> {
  checkOptions(options);
  const { host, format, cache, secrets, label, signal, dryRun = false } = options;
  signal?.throwIfAborted();
  const openOptions = {
    host,
    writable: !dryRun,
    ...(format !== undefined && { format }),
    ...(cache !== undefined && { cache }),
    ...(secrets !== undefined && { secrets }),
    ...(label !== undefined && { label }),
    ...(signal !== undefined && { signal }),
    ...(options.onWarning !== undefined && { onWarning: options.onWarning }),
  };
  const chain = await unchanged(() => openChain(target, openOptions));
  const opened: Chain[] = [chain];
  let result: CommitResult;
  try {
    const finished = await unchanged(() => findFinished(chain, options));
    if (finished !== undefined) {
      opened.push(finished.chain);
      if (!dryRun) {
        await invalidate(finished.chain, finished.plan.deletes);
        // Of a run that was killed, nobody knows whether its last step was synced.
        await syncAll(chain.layers.map(({ layer }) => layer));
        await removeDead(finished, options);
      }
      result = { plan: finished.plan, dryRun };
    } else {
      const prepared = await prepare(chain, options);
      opened.push(...prepared.overlays, ...(prepared.left ? [prepared.left] : []));
      result = { plan: dryRun ? prepared.plan : await run(prepared, options), dryRun };
    }
  } catch (error) {
    // What closing could say in addition would hide the error that matters.
    for (const each of opened) await each.close().catch(() => undefined);
    throw error;
  }
  try {
    for (const each of opened) await each.close();
  } catch (error) {
    throw dryRun ? untouched(error) : jobError(error);
  }
  return result;
}

/** Work that writes nothing. */
async function unchanged<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw untouched(error);
  }
}

/** A disk that can't be read fails the job, however early that is found. */
async function prepare(chain: Chain, options: CommitOptions): Promise<Prepared> {
  try {
    return await preflight(await findRange(chain, options), options);
  } catch (error) {
    throw error instanceof ImageError && error.code === 'io' ? jobError(error) : error;
  }
}

/** Resolves to the plan with what has come out. */
async function run(prepared: Prepared, options: CommitOptions): Promise<CommitPlan> {
  const { chain, base, relinks, plan } = prepared;
  // Locks and permissions first: they are what can still refuse.
  await unchanged(() => takeAccess(prepared, (work) => work()));
  options.onPlan?.(plan);
  let identicalBytes: number | null = null;
  try {
    identicalBytes = await fill(prepared, options);
    for (const each of relinks) await relink(each);
    const top = chain.at(0).layer;
    if (plan.empties !== null && top instanceof Qcow2Image) await empty(top, chain.at(0).name);
  } catch (error) {
    // Base is sound as it is on disk; this keeps what was copied, where it still can. The error
    // that stopped us is the one to tell.
    await base.layer.flush().catch(() => undefined);
    throw options.signal?.aborted || error instanceof EmptyError ? error : jobError(error);
  }
  const { left } = prepared;
  if (left !== null) await checkLeftBehind(prepared, left, options);
  await removeDead({ chain: left ?? chain, plan }, options);
  await forgetLeftBehind(prepared, options).catch((error: unknown) => {
    throw removalError(error, []);
  });
  return { ...plan, identicalBytes };
}

async function empty(top: Qcow2Image, name: string): Promise<void> {
  try {
    await top.empty();
  } catch (error) {
    throw emptyError(error, name);
  }
}

/**
 * Siblings have, durably, what they would lose; then base grown, filled and durable, window by window
 * where what it holds is let go of above it. Resolves to how many bytes base showed already; null
 * where that was not looked at.
 */
async function fill(prepared: Prepared, options: CommitOptions): Promise<number | null> {
  const { base, plan, steps, siblingCopies, reclaim } = prepared;
  const { host, signal, onProgress, rateLimit = 0 } = options;
  const total = copiedBytes(siblingCopies) + plan.copyBytes + plan.zeroBytes;
  const carrying = {
    meter: new Meter(host, total, onProgress),
    rateLimit: rateLimit instanceof RateLimit ? rateLimit : new RateLimit(rateLimit, host),
    signal,
  };
  await fillSiblings(siblingCopies, carrying);
  signal?.throwIfAborted();
  await reclaim?.prepare();
  await base.layer.grow(plan.newBaseSize, growOptions(options));
  const intoBase = { ...carrying, compress: options.compress === true };
  const { left, skipped } = await leaveOut(base.layer, options, carrying);
  if (reclaim === null) await carryOut(left(steps()), base.layer, intoBase);
  else {
    for await (const window of windowsOf(steps(), reclaim.shape)) {
      await carryOut(left([window.steps]), base.layer, intoBase);
      signal?.throwIfAborted();
      await base.layer.flush();
      await reclaim.letGo(window);
    }
  }
  signal?.throwIfAborted();
  await base.layer.flush();
  await settleBitmaps(prepared, plan.bitmaps);
  return skipped();
}

/** What of a plan is still to be done, and how many bytes were left out by then. */
interface Left {
  left(plan: Plan): Plan;
  skipped(): number | null;
}

/** What is left out passes as what is copied does: it has its share of the rate and the progress. */
async function leaveOut(
  base: Layer,
  { skipIdentical = false }: CommitOptions,
  { meter, rateLimit, signal }: CopyOptions,
): Promise<Left> {
  if (!skipIdentical) return { left: (plan) => plan, skipped: () => null };
  // Base is synced when it is filled. What it shows of those below it has to be as durable.
  await syncAll(layersFrom(base).slice(1));
  let bytes = 0;
  const skipped = async (count: number) => {
    await rateLimit.take(count, signal);
    meter.add(count);
    bytes += count;
  };
  return { left: (plan) => differing(plan, { base, signal, skipped }), skipped: () => bytes };
}

/** Whatever was written to their files before, by anybody, is durable. */
async function syncAll(layers: readonly Layer[]): Promise<void> {
  for (const { storage } of layers) await storage.flush();
}

/** The deepest first: who is stopped in between finds the others by those that are left. */
async function removeDead({ chain, plan }: Finished, { host }: CommitOptions): Promise<void> {
  const left = [...plan.deletes].reverse();
  for (let filename = left[0]; filename !== undefined; filename = left[0]) {
    const name = filename;
    try {
      await chain.layers.find((layer) => layer.filename === name)?.layer.close();
      await host.remove(name);
    } catch (error) {
      throw removalError(error, left);
    }
    left.shift();
  }
}
