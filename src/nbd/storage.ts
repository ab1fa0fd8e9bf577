// An export of an NBD server as a storage: what an image, or a raw disk, lies in.

import { ImageError } from '../errors.ts';
import type { Storage, StorageExtent, WriteKind } from '../io/storage.ts';
import { errnoException, ioError } from '../io/system-error.ts';
import { alignDown, alignUp, MIB } from '../units.ts';
import { RequestFailed } from './client.ts';
import type { Descriptor } from './requests.ts';
import type { NbdSession } from './session.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_STATE_ZERO,
} from './spec.ts';
import { Turns } from './turns.ts';

/** The most that one request without data is about, in bytes. */
const MOST_AT_ONCE = 1024 * MIB;
/** Zeros that have to be sent as data go in pieces of this size. */
const ZEROS = MIB;

/** Runs that a server told of from an offset on. */
interface KnownRuns {
  /** Where the first of them begins. */
  readonly offset: number;
  readonly runs: readonly Descriptor[];
}

export class NbdStorage implements Storage {
  readonly filename: string;
  readonly resizable = false;
  readonly fixedKind = 'NBD nodes';
  readonly growsZeroed = false;
  readonly #session: NbdSession;
  #writable: boolean;
  /** Writes of whole blocks go together, others read what they complete. */
  readonly #turns = new Turns();
  #known: KnownRuns | undefined;
  #changes = 0;

  /** Throws `read-only` where it is to be written and can't be. */
  constructor(filename: string, session: NbdSession, writable: boolean) {
    if (writable && (session.details.flags & NBD_FLAG_READ_ONLY) !== 0) {
      throw readOnly('Could not open image: Permission denied');
    }
    this.filename = filename;
    this.#session = session;
    this.#writable = writable;
  }

  get writable(): boolean {
    return this.#writable;
  }

  get size(): number {
    return this.#session.details.size;
  }

  get #block(): number {
    return this.#session.details.minimumBlock;
  }

  #can(flag: number): boolean {
    return (this.#session.details.flags & flag) !== 0;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.size - offset));
    target.fill(0, inside);
    if (inside === 0) return;
    const part = target.subarray(0, inside);
    const start = alignDown(offset, this.#block);
    const end = alignUp(offset + inside, this.#block);
    if (end - start === inside) await this.#readBlocks(offset, part);
    else {
      const blocks = new Uint8Array(end - start);
      await this.#readBlocks(start, blocks);
      part.set(blocks.subarray(offset - start, offset - start + inside));
    }
  }

  async #readBlocks(offset: number, target: Uint8Array): Promise<void> {
    await this.#inPieces('Could not read from', offset, target.length, (at, length) => {
      const part = target.subarray(at - offset, at - offset + length);
      return this.#session.request({
        type: NBD_CMD_READ,
        flags: 0,
        offset: at,
        length,
        target: part,
      });
    });
  }

  /** Pieces of a range as long as a request may carry, at the same time. */
  async #inPieces(
    doing: string,
    offset: number,
    length: number,
    work: (at: number, length: number) => Promise<unknown>,
  ): Promise<void> {
    const { maximumBlock } = this.#session.details;
    const pieces: Promise<unknown>[] = [];
    for (let done = 0; done < length; done += maximumBlock) {
      pieces.push(work(offset + done, Math.min(maximumBlock, length - done)));
    }
    await this.#telling(doing, offset, () => Promise.all(pieces));
  }

  async #telling<T>(doing: string, offset: number | undefined, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof RequestFailed) {
        throw ioError(doing, this.filename, offset, errnoException(doing, error.errno));
      }
      if (!(error instanceof ImageError)) throw error;
      throw new ImageError('io', `${doing} '${this.filename}': ${error.message}`, {
        cause: error,
        errno: error.errno ?? 'EIO',
      });
    }
  }

  async write(offset: number, source: Uint8Array, _kind: WriteKind): Promise<void> {
    this.#checkWrite(offset, source.length);
    if (source.length === 0) return;
    await this.#change(offset, source.length, {
      whole: () => this.#writeBlocks(offset, source),
      part: (blocks, at) => blocks.set(source, at),
    });
  }

  async #writeBlocks(offset: number, source: Uint8Array): Promise<void> {
    await this.#inPieces('Could not write to', offset, source.length, (at, length) => {
      const payload = source.subarray(at - offset, at - offset + length);
      return this.#session.request({
        type: NBD_CMD_WRITE,
        flags: 0,
        offset: at,
        length,
        payload,
      });
    });
  }

  /** A change of whole blocks as it is; of parts by way of the blocks that they lie in. */
  async #change(
    offset: number,
    length: number,
    how: {
      readonly whole: () => Promise<void>;
      readonly part: (blocks: Uint8Array, at: number) => void;
    },
  ): Promise<void> {
    this.#changing();
    const start = alignDown(offset, this.#block);
    const end = alignUp(offset + length, this.#block);
    if (this.#block === 1) return await how.whole();
    if (start === offset && end === offset + length) return await this.#turns.together(how.whole);
    await this.#turns.alone(async () => {
      const blocks = new Uint8Array(end - start);
      await this.#readBlocks(start, blocks);
      how.part(blocks, offset - start);
      await this.#writeBlocks(start, blocks);
    });
  }

  async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#checkWrite(offset, length);
    // Ragged ends are written, whatever the length of what lies between.
    const start = Math.min(alignUp(offset, this.#block), offset + length);
    const end = Math.max(alignDown(offset + length, this.#block), start);
    await this.#writeZeros(offset, start, kind);
    if (end > start) await this.#zeroBlocks(start, end, kind);
    await this.#writeZeros(end, offset + length, kind);
  }

  async #zeroBlocks(start: number, end: number, kind: WriteKind): Promise<void> {
    if (!this.#can(NBD_FLAG_SEND_WRITE_ZEROES)) return await this.#writeZeros(start, end, kind);
    this.#changing();
    await this.#turns.together(() =>
      this.#telling('Could not zero', start, () =>
        this.#forRange(NBD_CMD_WRITE_ZEROES, start, end),
      ),
    );
  }

  async #writeZeros(start: number, end: number, kind: WriteKind): Promise<void> {
    const zeros = new Uint8Array(Math.min(ZEROS, end - start));
    for (let at = start; at < end; at += ZEROS) {
      await this.write(at, zeros.subarray(0, Math.min(ZEROS, end - at)), kind);
    }
  }

  async #forRange(type: number, start: number, end: number): Promise<void> {
    for (let at = start; at < end; at += MOST_AT_ONCE) {
      const length = Math.min(MOST_AT_ONCE, end - at);
      await this.#session.request({ type, flags: 0, offset: at, length });
    }
  }

  #changing(): void {
    this.#known = undefined;
    this.#changes++;
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#checkWrite(0, 0);
    if (!this.#can(NBD_FLAG_SEND_TRIM)) return;
    this.#changing();
    const start = alignUp(offset, this.#block);
    const end = alignDown(Math.min(this.size, offset + length), this.#block);
    try {
      await this.#turns.together(() => this.#forRange(NBD_CMD_TRIM, start, end));
    } catch (error) {
      // A hint has no errors; a connection that is gone, the next request tells of.
      if (!(error instanceof RequestFailed || error instanceof ImageError)) throw error;
    }
  }

  async copyFrom(): Promise<number> {
    return 0;
  }

  async extentAt(offset: number): Promise<StorageExtent> {
    if (this.#session.details.allocationId === undefined) return { data: true, end: this.size };
    const changes = this.#changes;
    const [first, ...more] = await this.#runsAt(offset);
    if (first === undefined) return { data: true, end: this.size };
    const end = Math.min(this.size, offset + first.length);
    // Kept for whoever goes on from there, until something changes.
    this.#known = changes === this.#changes ? { offset: end, runs: more } : undefined;
    return { data: (first.flags & NBD_STATE_ZERO) === 0, end };
  }

  async #runsAt(offset: number): Promise<readonly Descriptor[]> {
    const known = this.#known;
    if (known?.offset === offset && known.runs.length > 0) return known.runs;
    const start = alignDown(offset, this.#block);
    const length = Math.min(this.size - start, MOST_AT_ONCE);
    const type = NBD_CMD_BLOCK_STATUS;
    try {
      const [first, ...more] = await this.#session.request({
        type,
        flags: 0,
        offset: start,
        length,
      });
      if (first === undefined || first.length <= offset - start) return [];
      return [{ ...first, length: first.length - (offset - start) }, ...more];
    } catch (error) {
      // It may hold anything then.
      if (error instanceof RequestFailed) return [];
      return await this.#telling('Could not look at', offset, () => Promise.reject(error));
    }
  }

  async allocatedBytes(): Promise<undefined> {
    return undefined;
  }

  async flush(): Promise<void> {
    if (!this.#can(NBD_FLAG_SEND_FLUSH)) return;
    await this.#telling('Could not flush', undefined, () => this.#session.flush());
  }

  async resize(): Promise<void> {
    throw new ImageError('invalid', `'${this.filename}' is an NBD export: its size is fixed`);
  }

  /** Servers know of none. */
  async lock(): Promise<void> {}

  async makeWritable(): Promise<void> {
    if (this.#can(NBD_FLAG_READ_ONLY)) {
      throw readOnly("Can't reopen read-only NBD mount as read/write");
    }
    this.#writable = true;
  }

  close(): Promise<void> {
    return this.#session.close();
  }

  #checkWrite(offset: number, length: number): void {
    if (!this.#writable) {
      throw new ImageError('read-only', `'${this.filename}' is open for reading only`, {
        errno: 'EBADF',
      });
    }
    if (offset + length <= this.size) return;
    const full = errnoException('write', 'ENOSPC');
    throw ioError('Could not write to', this.filename, offset, full);
  }
}

function readOnly(message: string): ImageError {
  return new ImageError('read-only', message, { errno: 'EACCES' });
}
