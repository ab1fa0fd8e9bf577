// The guest's data, encrypted sector by sector. What is read or written in part is completed to
// whole sectors: nobody else writes those meanwhile, as writers own whole clusters.

import type { Storage } from '../../io/storage.ts';
import type { HostRange } from '../../layer.ts';
import { alignUp, SECTOR } from '../../units.ts';
import type { DataStore } from '../data-store.ts';
import { keyRequired } from '../support.ts';
import type { SectorCipher } from './modes.ts';

/** Encrypted at a time: enough for the fewest calls, little enough for the processor's caches. */
const PIECE = 256 * 1024;

/** What opens the data of an image. */
export interface DataKey {
  readonly cipher: SectorCipher;
  /** Which of its two places gives a sector its number. */
  readonly numbers: 'host' | 'guest';
}

export class EncryptedData implements DataStore {
  readonly storage: Storage;
  readonly external: boolean;
  readonly raw: boolean;
  readonly opaque = true;
  readonly #cipher: SectorCipher;
  readonly #numbers: DataKey['numbers'];

  /** `stored`: where the encrypted bytes are kept. */
  constructor(stored: DataStore, { cipher, numbers }: DataKey) {
    this.storage = stored.storage;
    this.external = stored.external;
    this.raw = stored.raw;
    this.#cipher = cipher;
    this.#numbers = numbers;
  }

  #sector(host: number, guest: number): number {
    return (this.#numbers === 'host' ? host : guest) / SECTOR;
  }

  async read(host: number, guest: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const piece = target.subarray(done, done + pieceLength(host + done, target.length - done));
      await this.#readPiece(host + done, guest + done, piece);
      done += piece.length;
    }
  }

  async #readPiece(host: number, guest: number, target: Uint8Array): Promise<void> {
    const before = host % SECTOR;
    const length = alignUp(before + target.length, SECTOR);
    const stored = length === target.length ? target : new Uint8Array(length);
    await this.storage.read(host - before, stored);
    const plain = this.#cipher.decrypt(this.#sector(host - before, guest - before), stored);
    target.set(plain.subarray(before, before + target.length));
  }

  async write(host: number, guest: number, source: Uint8Array): Promise<void> {
    for (let done = 0; done < source.length; ) {
      const piece = source.subarray(done, done + pieceLength(host + done, source.length - done));
      await this.#writePiece(host + done, guest + done, piece);
      done += piece.length;
    }
  }

  async #writePiece(host: number, guest: number, source: Uint8Array): Promise<void> {
    const before = host % SECTOR;
    const start = host - before;
    const plain =
      before === 0 && source.length % SECTOR === 0
        ? source
        : await this.#completed(host, guest, source);
    const stored = this.#cipher.encrypt(this.#sector(start, guest - before), plain);
    await this.storage.write(start, stored, 'data');
  }

  /** Between what the sectors at its ends hold besides. */
  async #completed(host: number, guest: number, source: Uint8Array): Promise<Uint8Array> {
    const before = host % SECTOR;
    const plain = new Uint8Array(alignUp(before + source.length, SECTOR));
    const start = host - before;
    const guestStart = guest - before;
    const last = plain.length - SECTOR;
    await this.#readPiece(start, guestStart, plain.subarray(0, SECTOR));
    await this.#readPiece(start + last, guestStart + last, plain.subarray(last));
    plain.set(source, before);
    return plain;
  }

  async copyFrom(
    source: HostRange,
    from: number,
    host: number,
    guest: number,
    length: number,
  ): Promise<void> {
    const buffer = new Uint8Array(Math.min(BUFFER, length));
    for (let done = 0; done < length; ) {
      const piece = buffer.subarray(0, Math.min(buffer.length, length - done));
      source.storage.event?.('read_aio');
      await source.storage.read(source.offset + from + done, piece);
      this.storage.event?.('write_aio');
      await this.write(host + done, guest + done, piece);
      done += piece.length;
    }
  }
}

const BUFFER = 4 * PIECE;

/** Pieces end where sectors end. */
function pieceLength(host: number, length: number): number {
  return Math.min(length, PIECE - (host % SECTOR));
}

/** Nobody has given the key: what is stored can be moved about in the map, not read. */
export class LockedData implements DataStore {
  readonly storage: Storage;
  readonly external: boolean;
  readonly raw: boolean;
  readonly opaque = true;
  readonly refusal = keyRequired();

  constructor(stored: DataStore) {
    this.storage = stored.storage;
    this.external = stored.external;
    this.raw = stored.raw;
  }

  async read(): Promise<void> {
    throw this.refusal;
  }

  async write(): Promise<void> {
    throw this.refusal;
  }

  async copyFrom(): Promise<void> {
    throw this.refusal;
  }
}
