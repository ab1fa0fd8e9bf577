// Which layers let go of what base holds by now, where, and in which order, so that the view through
// the top holds at every instant:
//
// - Nothing is let go of before base holds it durably.
// - The lowest layer goes first, durably, then the one above it: what a layer lets go of must read as
//   base's bytes through the layers below it. What they still hide (clusters that a snapshot of
//   theirs shares, bytes past the end of a short one, which read as zeros) the layers above keep.
// - A cluster goes as a whole: all of it that the layer shows has to be in base.
//
// What is kept costs space alone: it is there for the end of the commit, as without reclaiming.

import { asQcow2 } from '../chain/chain.ts';
import { allocatedIn } from '../chain/extents.ts';
import { assert } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { alignDown, MIB } from '../units.ts';
import type { CommitOptions } from './options.ts';
import { zerosAreData } from './plan.ts';
import type { Range } from './range.ts';
import type { Window, WindowShape } from './windows.ts';

/** Where free space is unknown or plenty: so much that the waits for the disk count little. */
const MAX_WINDOW = 64 * MIB;
const MIN_WINDOW = MIB;
/** A window takes so much of the free space, as base's clusters may be larger than what is copied. */
const SHARE = 4;

/** A layer that gives space back to base's file system, from the start of the disk to `end`. */
interface Giver {
  readonly layer: Qcow2Image;
  readonly end: number;
}

export class Reclaim {
  /** Top first. */
  readonly layers: readonly Qcow2Image[];
  readonly shape: WindowShape;
  /** Why what is freed is no space that base could use, in words; null where it is. */
  readonly whyUseless: string | null;
  readonly #givers: readonly Giver[];
  /** Stretches that base holds and that were not let go of as a whole, in order. */
  #done: { readonly start: number; end: number }[] = [];

  private constructor(
    layers: readonly Qcow2Image[],
    shape: WindowShape,
    givers: readonly Giver[] | string,
  ) {
    this.layers = layers;
    this.shape = shape;
    this.whyUseless = typeof givers === 'string' ? givers : null;
    this.#givers = typeof givers === 'string' ? [] : givers;
  }

  static async plan(
    { chain, topIndex, baseIndex, top, base }: Range,
    { host, reclaimWindow }: CommitOptions,
  ): Promise<Reclaim> {
    const layers = chain.layers.slice(topIndex, baseIndex).map(({ layer }) => asQcow2(layer));
    const shape = {
      bytes: reclaimWindow ?? (await windowFor(base.layer, host)),
      clusterSize: base.layer.clusterSize,
      zerosAreData: zerosAreData(base.layer),
      unit: Math.max(...layers.map(({ clusterSize }) => clusterSize)),
      end: top.layer.size,
    };
    return new Reclaim(layers, shape, await giversOf(layers, base.layer, host));
  }

  /** The same in smaller windows, for less space at a time; null where that would not help. */
  finer(): Reclaim | null {
    const { bytes } = this.shape;
    if (bytes <= MIN_WINDOW || this.whyUseless !== null) return null;
    const shape = { ...this.shape, bytes: Math.max(MIN_WINDOW, bytes / SHARE) };
    return new Reclaim(this.layers, shape, this.#givers);
  }

  /** What may need space, done while there is some. */
  async prepare(): Promise<void> {
    for (const layer of this.layers) await layer.prepareToWrite({ dataUnchanged: true });
  }

  /** Durable when it resolves. Base has to hold the steps of the window, and of those before it. */
  async letGo({ steps, from, to }: Window): Promise<void> {
    for (const { offset, length } of steps) {
      const last = this.#done.at(-1);
      if (last?.end === offset) last.end += length;
      else this.#done.push({ start: offset, end: offset + length });
    }
    await this.#checkDone(from, to);
    this.#done = this.#done.filter(({ end }) => end > to);
    for (const [index, layer] of [...this.layers.entries()].reverse()) {
      const below = this.layers.slice(index + 1);
      for await (const [start, end] of shownThrough(below, from, Math.min(to, layer.size))) {
        await layer.reclaim(start, end - start);
      }
    }
  }

  /** Whatever a plan may have missed is not let go of. */
  async #checkDone(from: number, to: number): Promise<void> {
    let at = 0;
    for await (const extents of allocatedIn(this.layers, from, to - from)) {
      for (const { offset, length } of extents) {
        while ((this.#done[at]?.end ?? Number.POSITIVE_INFINITY) <= offset) at++;
        const done = this.#done[at];
        const isThere = done && done.start <= offset && done.end >= offset + length;
        assert(isThere, `bytes ${offset}+${length} were not brought down`);
      }
    }
  }

  /** Bytes that letting go of a window frees for base, at least. */
  async givesBack({ from, to }: Window): Promise<number> {
    let bytes = 0;
    for (const { layer, end } of this.#givers) {
      const length = Math.min(to, end) - from;
      if (length > 0) bytes += await layer.reclaimable(from, length);
    }
    return bytes;
  }
}

/** The parts of `from .. to` where none of the layers hides what is below it. */
async function* shownThrough(
  layers: readonly Layer[],
  from: number,
  to: number,
): AsyncGenerator<readonly [start: number, end: number]> {
  let at = from;
  for await (const extents of allocatedIn(layers, from, to - from)) {
    for (const { offset, length } of extents) {
      if (offset > at) yield [at, offset];
      at = offset + length;
    }
  }
  if (to > at) yield [at, to];
}

/** Where base's data goes. */
function dataFileOf(base: Layer): string {
  return (base instanceof Qcow2Image ? base.data.storage : base.storage).filename;
}

async function windowFor(base: Layer, host: Host): Promise<number> {
  const free = await host.freeSpace(dataFileOf(base));
  if (free === undefined || free / SHARE >= MAX_WINDOW) return MAX_WINDOW;
  return Math.max(MIN_WINDOW, alignDown(free / SHARE, MIB));
}

/** Or why there are none. */
async function giversOf(
  layers: readonly Qcow2Image[],
  base: Layer,
  host: Host,
): Promise<readonly Giver[] | string> {
  const place = await host.fileSystem?.(dataFileOf(base));
  const givers: Giver[] = [];
  let why = 'the layers above lie on another file system';
  let end = Number.POSITIVE_INFINITY;
  for (const layer of [...layers].reverse()) {
    const { storage, raw } = layer.data;
    end = Math.min(end, layer.size);
    if (place !== undefined && (await host.fileSystem?.(storage.filename)) === place) {
      if ((await storage.discardFreesSpace?.()) === true) givers.push({ layer, end });
      else why = 'parts of their files can not be given back here';
    }
    // What it keeps, all above it keep: not worth a closer look.
    if (raw || layer.header.nbSnapshots > 0) break;
  }
  return givers.length > 0 ? givers : why;
}
