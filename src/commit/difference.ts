// Whether a plan changes what base shows at all: an interrupted commit that is run again may find
// that everything is there already.

import type { Layer } from '../layer.ts';
import { MIB } from '../units.ts';
import type { Piece, PlanStep } from './plan.ts';

const BUFFER = MIB;

/** Reads until the first byte that would become another one. */
export async function changesBase(
  plan: AsyncIterable<readonly PlanStep[]>,
  base: Layer,
): Promise<boolean> {
  for await (const steps of plan) {
    for (const step of steps) {
      const pieces: readonly Piece[] = step.kind === 'zero' ? [step] : step.pieces;
      for (const piece of pieces) if (await differs(piece, base)) return true;
    }
  }
  return false;
}

async function differs(piece: Piece, base: Layer): Promise<boolean> {
  const size = Math.min(BUFFER, piece.length);
  const [wanted, there] = [new Uint8Array(size), new Uint8Array(size)];
  for (let done = 0; done < piece.length; done += size) {
    const length = Math.min(size, piece.length - done);
    const offset = piece.offset + done;
    const [will, now] = [wanted.subarray(0, length), there.subarray(0, length)];
    if (piece.kind === 'data') await piece.layer.read(offset, will);
    const inside = Math.max(0, Math.min(length, base.size - offset));
    if (inside > 0) await base.read(offset, now.subarray(0, inside));
    now.fill(0, inside);
    if (will.some((byte, i) => byte !== now[i])) return true;
  }
  return false;
}
