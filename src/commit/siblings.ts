// Siblings that keep their view: what a commit changes below them is copied into each of them, durably,
// before base changes. What stands on a sibling sees the same through it.

import { asQcow2, type Chain } from '../chain/chain.ts';
import { protocolOf } from '../chain/filename.ts';
import { LongerView } from '../chain/longer-view.ts';
import { openChain } from '../chain/open.ts';
import type { Sibling } from '../chain/siblings.ts';
import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Layer } from '../layer.ts';
import type { Qcow2Image } from '../qcow2/image.ts';
import { MIB } from '../units.ts';
import { type CopyOptions, carryOut } from './copy.ts';
import type { CommitOptions, CommitPlan } from './options.ts';
import { type PlanStep, untilAborted } from './plan.ts';
import type { Range, Refuse } from './range.ts';
import { backingIdOf } from './relinks.ts';
import { siblingSteps } from './sibling-steps.ts';
import { type Measured, measure } from './space.ts';

export interface SiblingCopy {
  readonly filename: string;
  readonly image: Qcow2Image;
  readonly steps: () => AsyncIterable<readonly PlanStep[]>;
  readonly measured: Measured;
}

export interface CopyTask {
  readonly range: Range;
  readonly siblings: readonly Sibling[];
  /** Steps on base. */
  readonly steps: () => AsyncIterable<readonly PlanStep[]>;
  readonly newBaseSize: number;
  readonly options: CommitOptions;
  /** Gets what is opened; its owner closes it. */
  readonly opened: Chain[];
  readonly refuse: Refuse;
}

/** Opens and checks those that stand on what changes; the others see it through these. */
export async function prepareSiblings(task: CopyTask): Promise<readonly SiblingCopy[]> {
  const copies: SiblingCopy[] = [];
  for (const { filename, direct } of task.siblings) {
    if (!direct) continue;
    try {
      copies.push(await prepareOne(filename, task));
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      task.refuse(error);
    }
  }
  return copies;
}

/** Tables in memory, in bytes, about. */
const CACHE_TOTAL = 32 * MIB;

async function prepareOne(filename: string, task: CopyTask): Promise<SiblingCopy> {
  const { range, options, newBaseSize } = task;
  const { host, secrets, dryRun = false } = options;
  // By a description: a name that was found is no URL, whatever it looks like.
  const target = { driver: 'qcow2', file: { driver: 'file', filename } };
  const access = { writable: !dryRun, forceShare: dryRun };
  const keys = secrets !== undefined && { secrets };
  // All of them are open at once.
  const cacheBytes = Math.max(MIB, Math.floor(CACHE_TOTAL / task.siblings.length));
  const open = { host, label: filename, single: true, cacheBytes, ...access, ...keys };
  const chain = await openChain(target, open);
  task.opened.push(chain);
  const image = asQcow2(chain.top);
  const index = await standsOn(image, filename, range, host);
  const { layers } = range.chain;
  const layer = range.chain.at(index).layer;
  // Where base ends now, the disk that it will be does not: zeros have to be said.
  image.backing = new LongerView(layer, Math.max(layer.size, grownSize(range, index, newBaseSize)));
  await checkWritable(image, filename);
  const standing = {
    sibling: image,
    between: layersOf(layers.slice(index, range.baseIndex)),
    below: layersOf(layers.slice(index)),
  };
  const steps = () => untilAborted(siblingSteps(task.steps(), standing), options.signal);
  const manner = { compress: false, bitmaps: recordingBitmaps(image) };
  const measured = await measure(steps(), image, image.size, manner, null);
  return { filename, image, steps, measured };
}

const layersOf = (layers: Chain['layers']): readonly Layer[] => layers.map(({ layer }) => layer);

/** Only base grows. */
function grownSize({ baseIndex }: Range, index: number, newBaseSize: number): number {
  return index === baseIndex ? newBaseSize : 0;
}

/** Index of the layer that it stands on. It has to see that layer as the chain does. */
async function standsOn(
  image: Qcow2Image,
  filename: string,
  { chain, topIndex, baseIndex }: Range,
  host: Host,
): Promise<number> {
  const { backingFile, backingFormat } = image.header;
  const id = await backingIdOf(image, host);
  const index = chain.layers.findIndex((layer) => layer.id === id);
  const isPlain = backingFile !== null && protocolOf(backingFile) !== 'json';
  // Without a stored format it is guessed, which gives this one for sure only where it is qcow2.
  const sameFormat = index >= 0 && (backingFormat ?? 'qcow2') === chain.at(index).layer.format;
  if (index > topIndex && index <= baseIndex && isPlain && sameFormat) return index;
  throw new ImageError(
    'unsupported',
    `'${filename}' can't be made independent: how it sees its backing file '${backingFile}' ` +
      'is not how this chain does',
  );
}

async function checkWritable(image: Qcow2Image, filename: string): Promise<void> {
  const refusal = image.refusalToWrite({ dataUnchanged: false, writable: true });
  if (refusal !== undefined) throw refusal;
  if ((await image.snapshots()).length > 0) {
    const message = `'${filename}' can't be made independent: it has internal snapshots`;
    throw new ImageError('unsupported', message, {
      hint: 'They would show other data; delete them first (qimg-ts snapshot -d).',
    });
  }
  await image.verify();
}

/** For the estimate of space. */
function recordingBitmaps(image: Qcow2Image) {
  return image.bitmaps.list.map(({ nameBytes, granularity, enabled, inconsistent }) => ({
    nameBytes,
    granularity,
    records: enabled && !inconsistent,
    rewritten: false,
  }));
}

export function describeCopies(copies: readonly SiblingCopy[]): CommitPlan['siblingCopies'] {
  return copies.map(({ filename, measured }) => {
    const { copyBytes, zeroBytes, growthBytes } = measured.totals;
    return { filename, copyBytes, zeroBytes, growthBytes };
  });
}

/** Bytes that are copied or zeroed in siblings. */
export function copiedBytes(copies: readonly SiblingCopy[]): number {
  return copies.reduce((sum, { measured: { totals } }) => {
    return sum + totals.copyBytes + totals.zeroBytes;
  }, 0);
}

/** Each sibling is durable when this resolves. */
export async function fillSiblings(
  copies: readonly SiblingCopy[],
  carrying: CopyOptions,
): Promise<void> {
  for (const { steps, image } of copies) {
    carrying.signal?.throwIfAborted();
    await carryOut(steps(), image, carrying);
    carrying.signal?.throwIfAborted();
    await image.flush();
    await image.storeBitmaps();
  }
}

/**
 * Too little room for all of them and base together: bytes needed and free, by a file. Files with
 * equally much room are taken to share it.
 */
export async function sharedShortage(
  host: Host,
  files: readonly { readonly filename: string; readonly needed: number }[],
): Promise<{ readonly filename: string; needed: number; free: number } | undefined> {
  const rooms = new Map<number, { readonly filename: string; needed: number; free: number }>();
  for (const { filename, needed } of files) {
    const free = await host.freeSpace(filename);
    if (free === undefined) continue;
    const room = rooms.get(free) ?? { filename, needed: 0, free };
    room.needed += needed;
    rooms.set(free, room);
  }
  return [...rooms.values()].find(({ needed, free }) => needed > free);
}
