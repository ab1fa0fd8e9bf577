// Everything that can refuse a rebase, before its first write.

import type { Chain } from '../chain/chain.ts';
import { isDriverOfQemu } from '../chain/drivers.ts';
import { WRITER } from '../chain/open-qcow2.ts';
import { ImageError } from '../errors.ts';
import { checkBackingFits } from '../qcow2/backing.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { MAX_BACKING_NAME } from '../qcow2/spec.ts';
import { recordingIn } from './bitmaps.ts';
import type { PlanStep } from './plan.ts';
import type { Refuse } from './range.ts';
import {
  leadsTo,
  loopError,
  type NewBacking,
  openNewBacking,
  resolveBacking,
} from './rebase-backing.ts';
import { type Change, compareSides } from './rebase-copy.ts';
import { changeError } from './rebase-errors.ts';
import { checkName } from './rebase-names.ts';
import type { RebaseOptions } from './rebase-options.ts';
import { type Sides, stretchesOf } from './rebase-pieces.ts';
import { measure, shortage, spaceError } from './space.ts';

export interface PreparedRebase {
  readonly overlay: Qcow2Image;
  readonly sides: Sides;
  readonly prefix: number | undefined;
  /** What the header is to say; null: no backing file. */
  readonly pointer: { readonly name: string; readonly format: string } | null;
}

/** `opened` gets what was opened in addition, for the caller to close. */
export async function prepareRebase(
  chain: Chain,
  options: RebaseOptions,
  opened: Chain[],
  refuse: Refuse,
): Promise<PreparedRebase> {
  const { backing, backingFormat, unsafe = false, force, skipAdvice } = options;
  if (backingFormat !== undefined && !isDriverOfQemu(backingFormat)) {
    throw new ImageError('invalid', `Invalid format name: '${backingFormat}'`);
  }
  const found = unsafe ? undefined : await openNewBacking(chain, options);
  if (found?.opened !== undefined) opened.push(found.opened);
  const { overlay, pointer } = await checkPointer(chain, options, found);
  if (backing && !skipAdvice) {
    if (unsafe) await checkLoop(chain, backing, options, refuse);
    if (!force) await checkName(chain, backing, options, refuse);
  }
  const refusal = overlay.refusalToWrite({ dataUnchanged: unsafe, writable: true });
  if (refusal !== undefined) refuse(refusal);
  const sides: Sides = { old: chain.layers.slice(1), new: found?.layers ?? [] };
  if (!unsafe && refusal === undefined) await checkCopying(chain, overlay, sides, options, refuse);
  if (options.dryRun) await checkAccess(overlay, refuse);
  return { overlay, sides, prefix: found?.prefix, pointer };
}

/** Such an image could not be opened any more. */
async function checkLoop(
  chain: Chain,
  backing: string,
  options: RebaseOptions,
  refuse: Refuse,
): Promise<void> {
  const isLoop = await leadsTo(chain, resolveBacking(chain.at(0), backing), options);
  if (isLoop) refuse(loopError(chain, backing));
}

/** What QEMU finds out when all is copied. */
async function checkPointer(
  chain: Chain,
  { backing, backingFormat }: RebaseOptions,
  found: NewBacking | undefined,
): Promise<Pick<PreparedRebase, 'overlay' | 'pointer'>> {
  const { layer } = chain.at(0);
  if (backing && backingFormat === undefined) {
    const format = found?.layers[0]?.layer.format;
    const hint =
      format === undefined
        ? 'Give it with -F.'
        : `Add -F ${format} if that is right: its content looks like that.`;
    throw changeError(backing, 'backing format must be specified', 'invalid', hint);
  }
  if (!(layer instanceof Qcow2Image)) {
    const hint = `'${layer.filename}' is no qcow2 image: it can't have a backing file.`;
    throw changeError(backing, 'Operation not supported', 'unsupported', hint);
  }
  if (!backing || backingFormat === undefined) return { overlay: layer, pointer: null };
  if (layer.data.raw) {
    const hint = 'Its data file is to be valid by itself (data_file_raw), without a backing file.';
    throw changeError(backing, 'Invalid argument', 'invalid', hint);
  }
  if (new TextEncoder().encode(backing).length > MAX_BACKING_NAME) {
    const hint = `A name has ${MAX_BACKING_NAME} bytes at most.`;
    throw changeError(backing, 'Invalid argument', 'invalid', hint);
  }
  await checkBackingFits(layer.storage, { name: backing, format: backingFormat }).catch(
    (error: unknown) => {
      if (!(error instanceof ImageError) || error.code !== 'invalid') throw error;
      throw changeError(backing, 'No space left in the file header', 'invalid', error.message);
    },
  );
  return { overlay: layer, pointer: { name: backing, format: backingFormat } };
}

/** What speaks against copying into the image, where there may be anything to copy. */
async function checkCopying(
  chain: Chain,
  overlay: Qcow2Image,
  sides: Sides,
  options: RebaseOptions,
  refuse: Refuse,
): Promise<void> {
  const { force, skipAdvice, signal } = options;
  let any = false;
  for await (const { pieces } of stretchesOf(overlay, sides, signal)) any ||= pieces.length > 0;
  if (any) await collect(() => overlay.verify(), refuse);
  if (force || skipAdvice) return;
  if (overlay.header.nbSnapshots > 0) refuse(snapshotError(overlay));
  if (any) await checkSpace(chain, overlay, sides, options, refuse);
}

/** Copies go into the active state alone. */
function snapshotError({ filename }: Qcow2Image): ImageError {
  return new ImageError(
    'invalid',
    `'${filename}' has internal snapshots: what they see of the backing file would be of the new one`,
    {
      hint:
        'Delete those that nobody needs (qimg-ts snapshot -d), or use --force to go on: ' +
        'what the image itself shows stays in any case.',
    },
  );
}

/** First by the maps alone; only where that would be too much, by what really differs. */
async function checkSpace(
  chain: Chain,
  overlay: Qcow2Image,
  sides: Sides,
  options: RebaseOptions,
  refuse: Refuse,
): Promise<void> {
  const short = async (steps: AsyncIterable<readonly PlanStep[]>) => {
    const manner = { compress: false, bitmaps: recordingIn(chain.at(0)) };
    const measured = await measure(steps, overlay, overlay.size, manner, null);
    return await shortage(options.host, overlay, measured);
  };
  if ((await short(mostSteps(overlay, sides, options.signal))) === undefined) return;
  const found = await short(exactSteps(overlay, sides, options));
  if (found !== undefined) refuse(spaceError(overlay, found));
}

function stepOf(kind: PlanStep['kind'], offset: number, length: number): PlanStep {
  return kind === 'zero' ? { kind, offset, length } : { kind, offset, length, pieces: [] };
}

async function* mostSteps(
  overlay: Qcow2Image,
  sides: Sides,
  signal: AbortSignal | undefined,
): AsyncGenerator<readonly PlanStep[]> {
  for await (const { pieces } of stretchesOf(overlay, sides, signal)) {
    yield pieces.map(({ offset, length, oldIsZero }) =>
      stepOf(oldIsZero ? 'zero' : 'copy', offset, length),
    );
  }
}

async function* exactSteps(
  overlay: Qcow2Image,
  sides: Sides,
  { signal, sparseSize }: RebaseOptions,
): AsyncGenerator<readonly PlanStep[]> {
  for await (const stretch of stretchesOf(overlay, sides, signal)) {
    const steps: PlanStep[] = [];
    const take = async ({ kind, offset, length }: Change) => {
      steps.push(stepOf(kind, offset, length));
    };
    await compareSides({ overlay, sides, stretches: [stretch], signal, sparseSize, take });
    yield steps.sort((a, b) => a.offset - b.offset);
  }
}

/** Locks and permissions: taken and given back, nothing is written. */
async function checkAccess({ storage }: Qcow2Image, refuse: Refuse): Promise<void> {
  await collect(() => storage.makeWritable(WRITER.use, WRITER.share), refuse);
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
