// Moves bytes from files into one file: extents are shared where they can be; long pieces are copied by
// the kernel, short ones that go to one place through a buffer, several of both at once.

import { copyBytes } from '../io/copy.ts';
import type { CloneRange, Storage } from '../io/storage.ts';
import type { MoveWatch } from '../layer.ts';
import { MIB } from '../units.ts';

/** Pieces that go through a buffer together are no more than that, as is the buffer. */
const BUFFER = MIB;
/** A copy by the kernel: short enough to stop in between, and to have several of them at once. */
const LONGEST = 16 * MIB;
const IN_FLIGHT = 8;

/** What is written at once: pieces with places one behind the other. */
interface Chunk {
  readonly pieces: CloneRange[];
  readonly to: number;
  length: number;
}

export interface Outcome {
  /** What is not moved, or not for sure. */
  readonly left: readonly CloneRange[];
  /** What ended it before all was moved. */
  readonly failure: { readonly reason: unknown } | undefined;
}

/** Resolves when nothing is under way any more. */
export async function movePieces(
  storage: Storage,
  pieces: readonly CloneRange[],
  { signal, moved }: MoveWatch,
): Promise<Outcome> {
  let rest = pieces;
  try {
    rest = pieces.slice(await clone(storage, pieces));
  } catch (reason) {
    return { left: pieces, failure: { reason } };
  }
  const chunks = chunksOf(rest);
  const left = new Set(chunks);
  let failure: Outcome['failure'];
  let next = 0;
  const work = async (): Promise<void> => {
    let buffer: Uint8Array | undefined;
    for (let chunk = chunks[next++]; chunk && !failure; chunk = chunks[next++]) {
      try {
        signal?.throwIfAborted();
        if (chunk.pieces.length > 1) buffer ??= new Uint8Array(BUFFER);
        await copyChunk(storage, chunk, buffer);
        left.delete(chunk);
        moved?.(chunk.length);
      } catch (reason) {
        failure ??= { reason };
      }
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return { left: [...left].flatMap((chunk) => chunk.pieces), failure };
}

/** How many of the pieces, from the first on, share their extents now. */
async function clone(storage: Storage, pieces: readonly CloneRange[]): Promise<number> {
  for (const source of new Set(pieces.map((piece) => piece.source))) {
    if ((await storage.canClone?.(source)) !== true) return 0;
  }
  return (await storage.cloneFrom?.(pieces)) ?? 0;
}

/** In the order of the pieces. */
function chunksOf(pieces: readonly CloneRange[]): readonly Chunk[] {
  const chunks: Chunk[] = [];
  for (const { source, from, to, length } of pieces) {
    for (let done = 0; done < length; done += LONGEST) {
      const count = Math.min(LONGEST, length - done);
      const piece = { source, from: from + done, to: to + done, length: count };
      const last = chunks.at(-1);
      const isNext = last !== undefined && last.to + last.length === piece.to;
      if (isNext && last.length + count <= BUFFER) {
        last.pieces.push(piece);
        last.length += count;
      } else chunks.push({ pieces: [piece], to: piece.to, length: count });
    }
  }
  return chunks;
}

async function copyChunk(
  storage: Storage,
  { pieces, to, length }: Chunk,
  buffer: Uint8Array | undefined,
): Promise<void> {
  const [first] = pieces;
  if (first === undefined) return;
  if (buffer === undefined || pieces.length === 1) {
    const source = { storage: first.source, offset: first.from };
    await copyBytes(source, 0, { storage, offset: to }, length);
    return;
  }
  const bytes = buffer.subarray(0, length);
  await Promise.all(
    pieces.map((piece) => {
      const at = piece.to - to;
      return piece.source.read(piece.from, bytes.subarray(at, at + piece.length));
    }),
  );
  await storage.write(to, bytes, 'data');
}
