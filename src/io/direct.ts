// Reads and writes around the page cache (O_DIRECT): whole blocks, from and to memory at addresses that
// the kernel takes. What is asked for may lie anywhere: reads fetch the blocks around it; what a write
// has of a block in part goes by a second descriptor through the cache, which completes the block and
// keeps the end of the file where it belongs. Both see each other's bytes: the kernel writes back and
// drops cached pages that a direct transfer touches, and the two never share a page.

import { alignDown, alignUp, KIB, MIB } from '../units.ts';
import type { Warn } from './file-locks.ts';
import { isDirect, O_DIRECT } from './file-open.ts';
import type { CacheMode } from './host.ts';
import type { Syscalls } from './syscalls.ts';
import { errnoException, ioError } from './system-error.ts';
import { readSome, type Transfers, writeAll, writeSome } from './transfer.ts';

/** A page, and a multiple of the logical blocks of all disks that there are. */
const BLOCK = 4 * KIB;
/** Of one transfer; what is longer goes in several. */
const PIECE = MIB;

export class DirectIo implements Transfers {
  readonly #filename: string;
  readonly #addressOf: Syscalls['addressOf'];
  readonly #openCached: () => number;

  /** `openCached`: the same file open for writing, without O_DIRECT; its owner closes it. */
  constructor(filename: string, calls: Syscalls, openCached: () => number) {
    this.#filename = filename;
    this.#addressOf = calls.addressOf;
    this.#openCached = openCached;
  }

  async read(fd: number, offset: number, target: Uint8Array): Promise<number> {
    const end = offset + target.length;
    for (let at = offset; at < end; ) {
      const start = alignDown(at, BLOCK);
      const stop = Math.min(alignUp(end, BLOCK), start + PIECE);
      const blocks =
        this.#isAligned(target, at - offset) && at === start && stop <= end
          ? target.subarray(at - offset, stop - offset)
          : undefined;
      const reached = await (blocks === undefined
        ? this.#readAround(fd, start, stop, (bytes) => {
            target.set(bytes.subarray(at - start, end - start), at - offset);
          })
        : this.#readBlocks(fd, start, blocks));
      if (reached < stop) return Math.max(0, Math.min(end, reached) - offset);
      at = stop;
    }
    return target.length;
  }

  async #readAround(
    fd: number,
    start: number,
    stop: number,
    take: (bytes: Uint8Array) => void,
  ): Promise<number> {
    return await this.#withBlocks(stop - start, async (blocks) => {
      const reached = await this.#readBlocks(fd, start, blocks);
      take(blocks.subarray(0, reached - start));
      return reached;
    });
  }

  /** Up to which offset there were bytes. */
  async #readBlocks(fd: number, offset: number, blocks: Uint8Array): Promise<number> {
    for (let done = 0; done < blocks.length; ) {
      const count = await readSome(fd, this.#filename, offset + done, blocks.subarray(done));
      // A block in part is the end of the file, and asking from its middle is not allowed.
      if (count === 0 || count % BLOCK !== 0) return offset + done + count;
      done += count;
    }
    return offset + blocks.length;
  }

  async write(
    fd: number,
    offset: number,
    source: Uint8Array,
    reached: (end: number) => void,
  ): Promise<void> {
    const end = offset + source.length;
    const first = Math.min(end, alignUp(offset, BLOCK));
    const last = Math.max(first, alignDown(end, BLOCK));
    await this.#writeCached(offset, source.subarray(0, first - offset), reached);
    for (let at = first; at < last; at += PIECE) {
      const stop = Math.min(last, at + PIECE);
      const bytes = source.subarray(at - offset, stop - offset);
      if (this.#isAligned(bytes, 0)) await this.#writeBlocks(fd, at, bytes);
      else {
        await this.#withBlocks(bytes.length, async (blocks) => {
          blocks.set(bytes);
          await this.#writeBlocks(fd, at, blocks);
        });
      }
      reached(stop);
    }
    await this.#writeCached(last, source.subarray(last - offset), reached);
  }

  async #writeBlocks(fd: number, offset: number, blocks: Uint8Array): Promise<void> {
    for (let done = 0, stuck = 0; done < blocks.length; ) {
      const count = await writeSome(fd, this.#filename, offset + done, blocks.subarray(done));
      const whole = alignDown(count, BLOCK);
      // A block in part is written again, as a whole: what kept it from that is told then.
      if (whole === 0 && stuck++ > 0) {
        const short = errnoException('write', 'EIO');
        throw ioError('Could not write to', this.#filename, offset + done, short);
      }
      done += whole;
    }
  }

  async #writeCached(
    offset: number,
    bytes: Uint8Array,
    reached: (end: number) => void,
  ): Promise<void> {
    if (bytes.length === 0) return;
    await writeAll(this.#openCached(), this.#filename, offset, bytes, reached);
  }

  #isAligned(bytes: Uint8Array, from: number): boolean {
    return (this.#addressOf(bytes) + BigInt(from)) % BigInt(BLOCK) === 0n;
  }

  async #withBlocks<T>(length: number, work: (blocks: Uint8Array) => Promise<T>): Promise<T> {
    const blocks = idle.pop() ?? alignedBlocks(this.#addressOf);
    try {
      return await work(blocks.subarray(0, length));
    } finally {
      if (idle.length < MOST_IDLE) idle.push(blocks);
    }
  }
}

const NO_CALLS =
  'the page cache can not be bypassed here (koffi is missing): ' +
  'cache modes none and directsync go through it';
/** Who has heard it. */
const warned = new WeakSet<Warn>();

/** Undefined where that can't be done: it is told once, and all goes through the page cache. */
export async function directCalls(
  cache: CacheMode,
  calls: () => Promise<Syscalls | null>,
  warn: Warn,
): Promise<Syscalls | undefined> {
  if (!isDirect(cache)) return undefined;
  const found = O_DIRECT === undefined ? null : await calls();
  if (found !== null) return found;
  if (!warned.has(warn)) warn(NO_CALLS);
  warned.add(warn);
  return undefined;
}

/** Of all files: making new ones costs more than what goes through them. */
const idle: Uint8Array[] = [];
const MOST_IDLE = 8;

function alignedBlocks(addressOf: Syscalls['addressOf']): Uint8Array {
  const space = new Uint8Array(PIECE + BLOCK);
  const start = Number(-addressOf(space) & BigInt(BLOCK - 1));
  return space.subarray(start, start + PIECE);
}
