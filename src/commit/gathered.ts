// Copies whose bytes lie as they are in files, waiting to move together: numbers in columns, out of
// which the steps that they were come back where base does not take them so.

import { PlacedRanges } from '../io/placed-ranges.ts';
import type { Storage } from '../io/storage.ts';
import type { HostRange, Layer } from '../layer.ts';
import type { Piece, PlanStep } from './plan.ts';

export type CopyStep = Extract<PlanStep, { kind: 'copy' }>;
export type PlacedPiece = Extract<Piece, { kind: 'data' }> & { readonly host: HostRange };

export class GatheredSteps {
  readonly ranges = PlacedRanges.of([]);
  /** Of all of them. */
  bytes = 0;
  /** How many of the ranges each step has. */
  readonly #counts: number[] = [];
  readonly #layers = new Map<Storage, Layer>();

  /** The pieces of one step. */
  add(pieces: readonly PlacedPiece[]): void {
    for (const piece of pieces) {
      this.ranges.add(piece);
      this.bytes += piece.length;
      this.#layers.set(piece.host.storage, piece.layer);
    }
    this.#counts.push(pieces.length);
  }

  /** With the first `done` ranges done: the bytes of the steps that are whole, and the other steps. */
  after(done: number): { readonly bytes: number; readonly rest: Iterable<CopyStep> } {
    let bytes = 0;
    let steps = 0;
    let first = 0;
    for (const count of this.#counts) {
      if (first + count > done) break;
      for (let i = first; i < first + count; i++) bytes += this.ranges.at(i)?.length ?? 0;
      first += count;
      steps++;
    }
    return { bytes, rest: this.#stepsFrom(steps, first) };
  }

  *#stepsFrom(step: number, range: number): Generator<CopyStep> {
    let first = range;
    for (const count of this.#counts.slice(step)) {
      const pieces = [...this.#piecesOf(first, first + count)];
      const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
      yield { kind: 'copy', offset: pieces[0]?.offset ?? 0, length, pieces };
      first += count;
    }
  }

  *#piecesOf(from: number, to: number): Generator<PlacedPiece> {
    for (let i = from; i < to; i++) {
      const range = this.ranges.at(i);
      const layer = range && this.#layers.get(range.host.storage);
      if (range && layer) yield { kind: 'data', ...range, layer };
    }
  }
}
