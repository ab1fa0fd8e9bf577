// Rebase: gives an image another backing file, or none.
//
// The order, each step durable before the next begins: the image holds itself what the new backing
// file would show otherwise; then its header names the new one. Whatever stops it, whenever, the
// guest's view through the image stays. Unsafe, it is the header alone.

import type { Chain } from '../chain/chain.ts';
import { type ChainTarget, openChain } from '../chain/open.ts';
import { errnoOf, ImageError, machineWords, strerror } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { type Copied, compareSides, takeOver } from './rebase-copy.ts';
import { changeError, stoppedError, writeError } from './rebase-errors.ts';
import type { RebaseOptions, RebaseResult } from './rebase-options.ts';
import { type Stretch, stretchesOf } from './rebase-pieces.ts';
import { type PreparedRebase, prepareRebase } from './rebase-preflight.ts';
import { StepCounter } from './rebase-steps.ts';
import { untouched } from './stopped.ts';

/**
 * Makes the image of `target` stand on another backing file.
 *
 * Rejects with an ImageError: everything as it was where something speaks against it; after an I/O
 * error half-way, as with the signal's reason where it was cancelled, the view through the image is
 * unchanged, it stands on the old backing file, and another run completes the rebase.
 */
export async function rebase(target: ChainTarget, options: RebaseOptions): Promise<RebaseResult> {
  const { host, format, cache, secrets, label, signal, onWarning, dryRun = false } = options;
  signal?.throwIfAborted();
  const opening = openChain(target, {
    host,
    writable: !dryRun,
    single: options.unsafe === true,
    ...(format !== undefined && { format }),
    ...(cache !== undefined && { cache }),
    ...(secrets !== undefined && { secrets }),
    ...(label !== undefined && { label }),
    ...(signal !== undefined && { signal }),
    ...(onWarning !== undefined && { onWarning }),
  });
  const chain = await opening.catch((error: unknown) => {
    throw untouched(error);
  });
  const opened: Chain[] = [chain];
  let result: RebaseResult;
  try {
    options.onOpened?.(chain.at(0));
    result = await run(chain, options, opened);
  } catch (error) {
    // What closing could say in addition would hide the error that matters.
    for (const each of opened) await each.close().catch(() => undefined);
    throw stoppedError(error);
  }
  try {
    for (const each of opened) await each.close();
  } catch (error) {
    throw stoppedError(error);
  }
  return result;
}

async function run(chain: Chain, options: RebaseOptions, opened: Chain[]): Promise<RebaseResult> {
  const { dryRun = false, unsafe = false } = options;
  const refusals: string[] = [];
  const refuse = (error: ImageError) => {
    if (!dryRun) throw error;
    refusals.push(error.hint === undefined ? error.message : `${error.message}\n${error.hint}`);
  };
  const prepared = await prepareRebase(chain, options, opened, refuse);
  const { overlay, pointer } = prepared;
  const oldBackingFile = overlay.header.backingFile;
  if (!dryRun) options.onStart?.();
  let copied: Copied = { comparedBytes: 0, copiedBytes: 0, zeroedBytes: 0 };
  if (!unsafe) copied = await copyWhatDiffers(prepared, options);
  if (!dryRun) await change(prepared, options);
  return {
    overlay: overlay.filename,
    oldBackingFile,
    backingFile: pointer?.name ?? null,
    backingFormat: pointer?.format ?? null,
    unsafe,
    ...copied,
    refusals,
    dryRun,
  };
}

/** All of it durable. */
async function copyWhatDiffers(prepared: PreparedRebase, options: RebaseOptions): Promise<Copied> {
  const { overlay, sides } = prepared;
  const { signal, dryRun = false } = options;
  const { passed, finish } = reporter(prepared, options);
  try {
    const copied = await compareSides({
      overlay,
      sides,
      stretches: stretchesOf(overlay, sides, signal),
      signal,
      sparseSize: options.sparseSize,
      take: (each) => (dryRun ? Promise.resolve() : takeOver(overlay, each)),
      passed,
    });
    await finish();
    signal?.throwIfAborted();
    if (!dryRun) await flush(prepared);
    return copied;
  } catch (error) {
    // This keeps what was copied, where it still can. The error that stopped us is the one to tell.
    if (!dryRun) await overlay.flush().catch(() => undefined);
    throw error;
  }
}

async function flush({ overlay }: PreparedRebase): Promise<void> {
  try {
    await overlay.flush();
  } catch (error) {
    throw writeError(error);
  }
}

/** Tells how far it is, in bytes, and in steps as QEMU takes them. */
function reporter(
  { overlay, sides, prefix }: PreparedRebase,
  { host, onProgress, onSteps }: RebaseOptions,
): { passed(stretch: Stretch): Promise<void>; finish(): Promise<void> } {
  const steps = new StepCounter({
    overlay,
    old: sides.old.map(({ layer }) => layer),
    new: sides.new.map(({ layer }) => layer),
    prefix,
  });
  const total = overlay.size;
  const tell = speedometer(host, total, onProgress);
  tell(0);
  return {
    async passed(stretch) {
      onSteps?.(await steps.count(stretch), total);
      tell(stretch.offset + stretch.length);
    },
    async finish() {
      onSteps?.(await steps.finish(), total);
      tell(total);
    },
  };
}

function speedometer(
  host: Host,
  total: number,
  onProgress: RebaseOptions['onProgress'],
): (done: number) => void {
  const started = host.now();
  return (done) => {
    const seconds = (host.now() - started) / 1000;
    const rate = seconds > 0 ? done / seconds : 0;
    const secondsLeft = rate > 0 ? (total - done) / rate : undefined;
    onProgress?.({ done, total, rate, secondsLeft });
  };
}

async function change(
  { overlay, pointer }: PreparedRebase,
  { backing }: RebaseOptions,
): Promise<void> {
  try {
    await overlay.setBackingFile(pointer);
  } catch (error) {
    const errno = errnoOf(error);
    if (!(error instanceof ImageError) || errno === undefined) throw error;
    throw changeError(backing, strerror(errno), error.code, `${machineWords(error)}.`, errno);
  }
}
