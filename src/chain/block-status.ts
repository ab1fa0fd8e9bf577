// The status of ranges of the guest's disk through a chain: which layer has the say, what it says,
// where the bytes lie. Streamed: nothing is kept but the current answer of each layer.

import type { HostRange, Layer } from '../layer.ts';
import { LayerCursor } from './layer-status.ts';

/** What the chain as a whole says about a range of the guest's disk. */
export interface BlockStatus {
  readonly offset: number;
  readonly length: number;
  /** Index of the layer that decides: 0 is the top. */
  readonly depth: number;
  /**
   * `data`: bytes of that layer. `hole`: clusters that are only reserved in a hole of its file, and
   * read as zeros. `zero`: the layer says that there are zeros. `absent`: no layer holds the range,
   * it reads as zeros; the last one that reaches so far decides.
   */
  readonly kind: 'data' | 'hole' | 'zero' | 'absent';
  /** Where the bytes, or the space kept for them, lie; null without such a place, or compressed. */
  readonly host: HostRange | null;
}

/** The status as QEMU gets it in one call. */
export interface StatusStep extends BlockStatus {
  /** Absent because the next layer ends before. */
  readonly pastBacking: boolean;
}

interface StepOptions {
  /** What no layer has a table for is one step, however long. */
  readonly whole: boolean;
}

/**
 * Steps from `offset` to `offset + length`, which is inside the disk of the first of `layers` (top
 * first). A step ends where the status changes in any of the layers asked, and where QEMU's does,
 * but where `whole` is given.
 */
export async function* statusSteps(
  layers: readonly Layer[],
  offset: number,
  length: number,
  { whole }: StepOptions = { whole: false },
): AsyncGenerator<StatusStep> {
  const cursors = layers.map((layer) => new LayerCursor(layer, false));
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const step = await stepAt(cursors, at, end, whole);
    yield step;
    at += step.length;
  }
}

/** The same, at offsets of the caller's choice that never go back. */
export class StatusCursor {
  readonly #cursors: readonly LayerCursor[];

  /** Top first; at least one. */
  constructor(layers: readonly Layer[]) {
    this.#cursors = layers.map((layer) => new LayerCursor(layer, false));
  }

  /** From `offset` on, up to `end` at most; both inside the disk of the first layer. */
  at(offset: number, end: number): Promise<StatusStep> {
    return stepAt(this.#cursors, offset, end, false);
  }
}

async function stepAt(
  cursors: readonly LayerCursor[],
  offset: number,
  most: number,
  whole: boolean,
): Promise<StatusStep> {
  const empty = emptyAbove(cursors, offset, most);
  if (empty.absent !== undefined) {
    const { absent, end } = empty;
    return whole || absent.length <= end - offset ? absent : { ...absent, length: end - offset };
  }
  let { end } = empty;
  for (let { depth } = empty; ; depth++) {
    const cursor = cursors[depth];
    if (cursor === undefined) throw new Error('internal error: no layer decides');
    const status = await cursor.at(offset, Math.min(end, cursor.layer.size));
    end = status.end;
    const step = { offset, length: end - offset, depth, host: status.host };
    const { kind } = status;
    if (kind !== 'unallocated') return { ...step, kind, pastBacking: false };
    const below = cursors[depth + 1]?.layer;
    if (below === undefined || offset >= below.size) {
      return { ...step, kind: 'absent', pastBacking: below !== undefined };
    }
  }
}

/**
 * Passes the layers without as much as a table for `offset`, in one go: chains may be long, and
 * disks large. Where no layer has one, that is the answer (`absent`), up to where one begins. `end`
 * is as far as the layers passed, the first `depth`, let a step of QEMU's go.
 */
function emptyAbove(
  cursors: readonly LayerCursor[],
  offset: number,
  most: number,
): { readonly depth: number; readonly end: number; readonly absent?: StatusStep } {
  let end = most;
  let absentEnd = most;
  for (const [depth, cursor] of cursors.entries()) {
    const emptyEnd = cursor.emptyEnd(offset);
    if (emptyEnd <= offset) return { depth, end };
    absentEnd = Math.min(absentEnd, emptyEnd);
    end = Math.min(end, cursor.layer.size, cursor.stepEnd(offset));
    const below = cursors[depth + 1]?.layer;
    if (below === undefined || offset >= below.size) {
      const pastBacking = below !== undefined;
      const length = absentEnd - offset;
      return {
        depth,
        end,
        absent: { offset, length, depth, kind: 'absent', host: null, pastBacking },
      };
    }
  }
  throw new Error('internal error: no layer decides');
}

/**
 * The status of a range, neighbours that nothing tells apart merged. Throws the signal's reason
 * between two steps.
 */
export async function* blockStatus(
  layers: readonly Layer[],
  offset: number,
  length: number,
  signal?: AbortSignal,
): AsyncGenerator<BlockStatus> {
  let last: BlockStatus | undefined;
  // As QEMU's map tells it.
  const cursors = layers.map((layer) => new LayerCursor(layer, true));
  const end = offset + length;
  for (let at = offset; at < end; ) {
    signal?.throwIfAborted();
    const step = await stepAt(cursors, at, end, true);
    at += step.length;
    if (last !== undefined && mergeable(last, step)) {
      last = { ...last, length: last.length + step.length };
      continue;
    }
    if (last !== undefined) yield last;
    const { depth, kind, host } = step;
    last = { offset: step.offset, length: step.length, depth, kind, host };
  }
  if (last !== undefined) yield last;
}

function mergeable(a: BlockStatus, b: BlockStatus): boolean {
  if (a.kind !== b.kind || a.depth !== b.depth) return false;
  if (a.host === null || b.host === null) return a.host === b.host;
  return a.host.offset + a.length === b.host.offset;
}
