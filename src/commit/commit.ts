// Commit, offline: merges the layers from top to above base into base.
//
// The order, each step durable before the next begins: base holds everything; then overlays are
// relinked; then the top is emptied, or the layers that nobody needs are removed. Whatever stops
// it, whenever, the guest's view through the top stays.

import type { Chain } from '../chain/chain.ts';
import { type ChainTarget, openChain } from '../chain/open.ts';
import { WRITER } from '../chain/open-qcow2.ts';
import { relink } from '../chain/relink.ts';
import { errnoOf, ImageError, strerror } from '../errors.ts';
import { RateLimit } from '../io/throttle.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { settleBitmaps } from './bitmaps.ts';
import { carryOut } from './copy.ts';
import { type Finished, findFinished } from './finished.ts';
import { type CommitOptions, type CommitResult, checkOptions } from './options.ts';
import { growOptions, type Prepared, preflight } from './preflight.ts';
import { findRange } from './range.ts';

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
  const chain = await openChain(target, {
    host,
    writable: !dryRun,
    ...(format !== undefined && { format }),
    ...(cache !== undefined && { cache }),
    ...(secrets !== undefined && { secrets }),
    ...(label !== undefined && { label }),
    ...(signal !== undefined && { signal }),
    ...(options.onWarning !== undefined && { onWarning: options.onWarning }),
  });
  const opened: Chain[] = [chain];
  let result: CommitResult;
  try {
    const finished = await findFinished(chain, options);
    if (finished !== undefined) {
      opened.push(finished.chain);
      if (!dryRun) await removeDead(finished, options);
      result = { plan: finished.plan, dryRun };
    } else {
      const prepared = await prepare(chain, options);
      opened.push(...prepared.overlays);
      if (!dryRun) await run(prepared, options);
      result = { plan: prepared.plan, dryRun };
    }
  } catch (error) {
    // What closing could say in addition would hide the error that matters.
    for (const each of opened) await each.close().catch(() => undefined);
    throw error;
  }
  for (const each of opened) await each.close();
  return result;
}

/** A disk that can't be read fails the job, however early that is found. */
async function prepare(chain: Chain, options: CommitOptions): Promise<Prepared> {
  try {
    return await preflight(await findRange(chain, options), options);
  } catch (error) {
    throw error instanceof ImageError && error.code === 'io' ? jobError(error) : error;
  }
}

async function run(prepared: Prepared, options: CommitOptions): Promise<void> {
  const { chain, base, relinks, plan } = prepared;
  // Locks and permissions first: they are what can still refuse.
  await base.layer.storage.makeWritable(WRITER.use, WRITER.share);
  for (const { overlay } of relinks) {
    if (!overlay.writable) await overlay.storage.makeWritable(WRITER.use, WRITER.share);
  }
  options.onPlan?.(plan);
  try {
    await fillBase(prepared, options);
    for (const each of relinks) await relink(each);
    const top = chain.at(0).layer;
    if (plan.empties !== null && top instanceof Qcow2Image) await empty(top, chain.at(0).name);
  } catch (error) {
    // Base is sound as it is on disk; this keeps what was copied, where it still can. The error
    // that stopped us is the one to tell.
    await base.layer.flush().catch(() => undefined);
    throw options.signal?.aborted || error instanceof EmptyError ? error : jobError(error);
  }
  await removeDead(prepared, options);
}

class EmptyError extends ImageError {}

/** Base has it all by now: an error leaves a top that still says the same. */
async function empty(top: Qcow2Image, name: string): Promise<void> {
  try {
    await top.empty();
  } catch (error) {
    if (!(error instanceof ImageError) || error.errno === undefined) throw error;
    const { code, errno, message: hint } = error;
    const message = `Failed to empty ${name}: ${strerror(errno)}`;
    throw new EmptyError(code, message, { cause: error, errno, hint });
  }
}

/** Base grown, filled and durable. */
async function fillBase(prepared: Prepared, options: CommitOptions): Promise<void> {
  const { base, plan, steps } = prepared;
  const { host, signal, onProgress, rateLimit } = options;
  signal?.throwIfAborted();
  await base.layer.grow(plan.newBaseSize, growOptions(options));
  await carryOut(steps(), base.layer, {
    host,
    total: plan.copyBytes + plan.zeroBytes,
    rateLimit: rateLimit instanceof RateLimit ? rateLimit : new RateLimit(rateLimit ?? 0, host),
    compress: options.compress === true,
    signal,
    onProgress,
  });
  signal?.throwIfAborted();
  await base.layer.flush();
  await settleBitmaps(prepared, plan.bitmaps);
}

/** The deepest first: who is stopped in between finds the others by those that are left. */
async function removeDead({ chain, plan }: Finished, { host }: CommitOptions): Promise<void> {
  for (const filename of [...plan.deletes].reverse()) {
    const dead = chain.layers.find((layer) => layer.filename === filename);
    await dead?.layer.close();
    await host.remove(filename);
  }
}

function jobError(error: unknown): unknown {
  const errno = errnoOf(error);
  const code = error instanceof ImageError ? error.code : 'io';
  if (!(error instanceof Error) || (errno === undefined && !(error instanceof ImageError))) {
    return error;
  }
  const reason = errno === undefined ? error.message : strerror(errno);
  return new ImageError(code, `Block job failed: ${reason}`, {
    cause: error,
    hint:
      `${error.message}. The view through the top is unchanged; ` +
      'once the cause is gone, the same command completes the commit.',
    ...(errno !== undefined && { errno }),
  });
}
