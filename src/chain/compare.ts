// Compares what two chains show the guest. Ranges that read as zeros on both sides are not read;
// the rest is read some pieces ahead, and judged in the order of the disk.

import { ImageError } from '../errors.ts';
import type { Chain } from './chain.ts';
import { firstDifference, firstNonZero } from './compare-bytes.ts';
import {
  bothPieces,
  CompareError,
  PIECE,
  type Piece,
  type Side,
  tailPieces,
} from './compare-pieces.ts';

export interface CompareOptions {
  /** The sizes must be the same too, and what is allocated where. Default false. */
  readonly strict?: boolean;
  readonly signal?: AbortSignal;
  /** Bytes of the larger disk that are dealt with, piece by piece. */
  readonly onProgress?: (done: number, total: number) => void;
  /** One disk is larger; what it has more will be compared with zeros. */
  readonly onSizeMismatch?: () => void;
}

/** Offsets are those of the first sector, or with `status` the first range, that differs. */
export type Comparison =
  | { readonly result: 'identical' }
  | { readonly result: 'content'; readonly offset: number }
  /** Strict only. */
  | { readonly result: 'size' }
  | { readonly result: 'status'; readonly offset: number };

/** Bytes of the guest's disk, and pieces, that are read ahead. */
const BYTES_IN_FLIGHT = 4 * PIECE;
const PIECES_IN_FLIGHT = 16;
/** Of larger disks, what is not there is passed in one step: QEMU's, of 2 GiB, are too many. */
const MAX_STEPPED = 2 ** 48;

/**
 * Whether the guest sees the same through both; a longer disk is the same if it ends in zeros.
 * Rejects with a CompareError where an image can't be read, and with the signal's reason.
 */
export async function compareChains(
  a: Chain,
  b: Chain,
  options: CompareOptions = {},
): Promise<Comparison> {
  const sizes = [a.size, b.size] as const;
  if (options.strict && a.size !== b.size) return { result: 'size' };
  const chains = [a, b] as const;
  const total = Math.max(...sizes);
  let done = 0;
  const advance = ({ step }: Piece): void => {
    if (step === 0) return;
    done += step;
    options.onProgress?.(done, total);
  };
  const common = Math.min(...sizes);
  const whole = total > MAX_STEPPED;
  const found = await judge(
    chains,
    common === 0 ? [] : bothPieces(chains, { strict: options.strict === true, whole }),
    options,
    advance,
  );
  if (found !== undefined || a.size === b.size) return found ?? { result: 'identical' };
  options.onSizeMismatch?.();
  const longer = a.size > b.size ? 0 : 1;
  const rest = tailPieces(chains[longer], longer, common, whole);
  return (await judge(chains, rest, options, advance)) ?? { result: 'identical' };
}

interface Pending {
  readonly piece: Piece;
  /** Offset in the piece, or what went wrong. */
  readonly difference: Promise<number | undefined | Error>;
}

/** Reads ahead and looks at the results in order; undefined where nothing differs. */
async function judge(
  chains: readonly [Chain, Chain],
  pieces: AsyncIterable<Piece> | Iterable<Piece>,
  { signal }: CompareOptions,
  advance: (piece: Piece) => void,
): Promise<Comparison | undefined> {
  const pending: Pending[] = [];
  const buffers = new Buffers();
  let bytes = 0;
  const settle = async (): Promise<Comparison | undefined> => {
    const next = pending.shift();
    if (next === undefined) return undefined;
    bytes -= costOf(next.piece);
    const difference = await next.difference;
    signal?.throwIfAborted();
    if (difference instanceof Error) throw difference;
    const { offset, read } = next.piece;
    if (read === 'differs') return { result: 'status', offset };
    if (difference !== undefined) return { result: 'content', offset: offset + difference };
    advance(next.piece);
    return undefined;
  };
  try {
    for await (const piece of pieces) {
      pending.push({ piece, difference: look(chains, piece, buffers) });
      bytes += costOf(piece);
      while (bytes > BYTES_IN_FLIGHT || pending.length > PIECES_IN_FLIGHT) {
        const found = await settle();
        if (found !== undefined) return found;
      }
    }
  } catch (error) {
    // What was found before that has the first word.
    if (!(error instanceof CompareError) || error.doing !== 'status') throw error;
    return (await settleAll(pending, settle)) ?? Promise.reject(error);
  } finally {
    // Nobody may close the chains while they are read.
    await Promise.all(pending.map(({ difference }) => difference));
  }
  return settleAll(pending, settle);
}

async function settleAll(
  pending: readonly Pending[],
  settle: () => Promise<Comparison | undefined>,
): Promise<Comparison | undefined> {
  while (pending.length > 0) {
    const found = await settle();
    if (found !== undefined) return found;
  }
  return undefined;
}

function costOf({ length, read }: Piece): number {
  return read === 'none' || read === 'differs' ? 0 : length;
}

/** Buffers of one piece, used again: address space may be short. */
class Buffers {
  readonly #free: Uint8Array[] = [];

  async use<T>(count: number, work: (buffers: readonly Uint8Array[]) => Promise<T>): Promise<T> {
    const taken = Array.from({ length: count }, () => this.#free.pop() ?? new Uint8Array(PIECE));
    try {
      return await work(taken);
    } finally {
      this.#free.push(...taken);
    }
  }
}

/** Never rejects: the piece may be looked at after others. */
async function look(
  chains: readonly [Chain, Chain],
  { offset, length, read, chunk }: Piece,
  buffers: Buffers,
): Promise<number | undefined | Error> {
  if (read === 'none' || read === 'differs') return undefined;
  const sides: readonly Side[] = read === 'both' ? [0, 1] : [read];
  return buffers.use(sides.length, async (taken) => {
    const targets = taken.map((buffer) => buffer.subarray(0, length));
    const failures = await Promise.all(
      targets.map((target, i) => readSide(chains, sides[i] ?? 0, offset, target, chunk)),
    );
    const [a, b] = targets;
    const failure = failures.find((each) => each !== undefined);
    if (failure !== undefined || a === undefined) return failure;
    return b === undefined ? firstNonZero(a) : firstDifference(a, b);
  });
}

async function readSide(
  chains: readonly [Chain, Chain],
  side: Side,
  offset: number,
  target: Uint8Array,
  chunk: number,
): Promise<Error | undefined> {
  try {
    await chains[side].read(offset, target);
    return undefined;
  } catch (error) {
    if (error instanceof ImageError) return new CompareError(error, side, 'read', chunk);
    return error instanceof Error ? error : new Error(String(error));
  }
}
