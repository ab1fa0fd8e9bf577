// What a power cut leaves of a file.
//
// The model. What was synced is there. Of what was done to the file since, any part may be there, in
// any order: each write, copy and zeroed range torn at 512 bytes, each change of length as a whole.
// Files know nothing of each other's order. A call that was synced before it came back is not covered.

import { MemoryFile } from '../../src/io/memory.ts';

const SECTOR = 512;

/** `copy`: within the machine. `clone`: extents are shared. `discard`: never makes a file longer. */
export type Change =
  | {
      readonly kind: 'write' | 'copy' | 'clone';
      readonly offset: number;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: 'zero' | 'discard'; readonly offset: number; readonly length: number }
  | { readonly kind: 'resize'; readonly size: number };

/** 0 up to, but not including, `limit`. */
export type Random = (limit: number) => number;

/** Reproducible numbers (mulberry32). */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

/** The least of a change that is there or is not. */
export interface Atom {
  readonly file: string;
  readonly change: Change;
}

/** The parts into which a change may be torn. */
export function atomsOf(file: string, change: Change): readonly Atom[] {
  if (change.kind === 'resize') return [{ file, change }];
  const { offset } = change;
  const end = offset + ('bytes' in change ? change.bytes.length : change.length);
  const atoms: Atom[] = [];
  for (let at = offset; at < end; ) {
    const stop = Math.min(end, at - (at % SECTOR) + SECTOR);
    const part =
      'bytes' in change
        ? {
            kind: change.kind,
            offset: at,
            bytes: change.bytes.subarray(at - offset, stop - offset),
          }
        : { kind: change.kind, offset: at, length: stop - at };
    atoms.push({ file, change: part });
    at = stop;
  }
  return atoms;
}

/** The file with these changes, one after the other. */
export function applied(start: Uint8Array, changes: readonly Change[]): Uint8Array {
  if (changes.length === 0) return start;
  const file = new MemoryFile(start);
  for (const change of changes) {
    if (change.kind === 'resize') {
      file.resize(change.size);
      continue;
    }
    const end = change.offset + ('bytes' in change ? change.bytes.length : change.length);
    if (change.kind !== 'discard') file.growTo(end);
    const target = file.view(change.offset, end);
    if ('bytes' in change) target.set(change.bytes);
    else target.fill(0);
  }
  return file.view(0, file.size).slice();
}

/**
 * Parts of `fresh` and `others` that a cut may leave, in the order in which they came to be: each has
 * something of `fresh`, as what has not was possible before. All of them where those are no more than
 * `most`, else that many that `random` picks.
 */
export function* selections(
  fresh: readonly Atom[],
  others: readonly Atom[],
  most: number,
  random: Random,
): Generator<readonly Atom[]> {
  const count = countOf(fresh.length, others.length);
  if (count <= most) {
    yield* allOf(fresh, others);
    return;
  }
  for (let i = 0; i < most; i++) yield pick(i, fresh, others, random);
}

/** How many there are, without regard to order; endless where nobody would count them. */
export function countOf(fresh: number, others: number): number {
  if (fresh === 0) return 0;
  return fresh + others > 20 ? Number.POSITIVE_INFINITY : (2 ** fresh - 1) * 2 ** others;
}

function* allOf(fresh: readonly Atom[], others: readonly Atom[]): Generator<readonly Atom[]> {
  const atoms = [...others, ...fresh];
  // The high bits are those of `fresh`.
  for (let mask = 2 ** others.length; mask < 2 ** atoms.length; mask++) {
    const kept = atoms.filter((_, i) => (mask & (1 << i)) !== 0);
    yield kept;
    if (overlapping(kept)) yield [...kept].reverse();
  }
}

function overlapping(atoms: readonly Atom[]): boolean {
  const sectors = new Set<string>();
  for (const { file, change } of atoms) {
    if (change.kind === 'resize') return true;
    const key = `${file} ${Math.floor(change.offset / SECTOR)}`;
    if (sectors.has(key)) return true;
    sectors.add(key);
  }
  return false;
}

/** The extremes first, then any part in any order. */
function pick(
  i: number,
  fresh: readonly Atom[],
  others: readonly Atom[],
  random: Random,
): readonly Atom[] {
  if (i === 0) return fresh;
  if (i === 1) return [...others, ...fresh];
  const share = [10, 50, 90, 97][random(4)] ?? 50;
  const some = (atoms: readonly Atom[]) => atoms.filter(() => random(100) < share);
  // Whole, or torn.
  const kept = [...some(others), ...(random(2) === 0 ? fresh : some(fresh))];
  return random(2) === 0 ? kept : shuffled(kept, random);
}

function shuffled(atoms: readonly Atom[], random: Random): readonly Atom[] {
  const list = [...atoms];
  for (let i = list.length - 1; i > 0; i--) {
    const j = random(i + 1);
    const [a, b] = [list[i], list[j]];
    if (a === undefined || b === undefined) continue;
    list[i] = b;
    list[j] = a;
  }
  return list;
}
