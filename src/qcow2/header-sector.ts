// The first sector of an image, which holds all fields that change while it is written to: each
// change of some of them is one write, so old or new, never torn.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { SECTOR } from '../units.ts';
import { type FieldValues, readExact, readFields, writeField } from './fields.ts';
import { unguarded } from './guarded-storage.ts';
import { HEADER, INCOMPATIBLE, V2_HEADER_LENGTH } from './spec.ts';

export type HeaderPatch = Partial<FieldValues<typeof HEADER>>;

export class HeaderSector {
  readonly #storage: Storage;
  readonly #bytes: Uint8Array;

  private constructor(storage: Storage, bytes: Uint8Array) {
    this.#storage = storage;
    this.#bytes = bytes;
  }

  static async read(storage: Storage): Promise<HeaderSector> {
    const bytes = new Uint8Array(SECTOR);
    await storage.read(0, bytes);
    return new HeaderSector(storage, bytes);
  }

  /** As written last. */
  get fields(): FieldValues<typeof HEADER> {
    const old = this.#bytes[7] === 2 ? this.#bytes.subarray(0, V2_HEADER_LENGTH) : this.#bytes;
    return readFields(HEADER, old, () => readExact);
  }

  /** Sets the corrupt bit, durably, where there is one and it can be written. */
  async noteCorruption(): Promise<void> {
    const { version, incompatibleFeatures } = this.fields;
    if (version < 3 || incompatibleFeatures & INCOMPATIBLE.corrupt) return;
    const bits = incompatibleFeatures | INCOMPATIBLE.corrupt;
    try {
      // The place of the header itself may be what is contested.
      await this.#write({ incompatibleFeatures: bits }, unguarded(this.#storage));
      await this.#storage.flush();
    } catch (error) {
      // What was found is the error to tell.
      if (!(error instanceof ImageError)) throw error;
    }
  }

  async write(patch: HeaderPatch): Promise<void> {
    await this.#write(patch, this.#storage);
  }

  async #write(patch: HeaderPatch, storage: Storage): Promise<void> {
    // Read anew: extensions that lie in it change by other ways.
    await this.#storage.read(0, this.#bytes);
    for (const [name, value] of Object.entries(patch)) {
      writeField(this.#bytes, HEADER[name as keyof typeof HEADER], value);
    }
    if ('l1TableOffset' in patch) this.#storage.event?.('l1_grow_activate_table');
    if ('refcountTableOffset' in patch) this.#storage.event?.('refblock_alloc_switch_table');
    await storage.write(0, this.#bytes, 'header');
  }
}
