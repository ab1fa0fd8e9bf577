// The first sector of an image, which holds all fields that change while it is written to: each
// change of some of them is one write, so old or new, never torn.

import type { Storage } from '../io/storage.ts';
import { SECTOR } from '../units.ts';
import { type FieldValues, writeField } from './fields.ts';
import { HEADER } from './spec.ts';

export type HeaderPatch = Partial<FieldValues<typeof HEADER>>;

export class HeaderSector {
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  async write(patch: HeaderPatch): Promise<void> {
    // Read anew: extensions that lie in it change by other ways.
    const bytes = new Uint8Array(SECTOR);
    await this.#storage.read(0, bytes);
    for (const [name, value] of Object.entries(patch)) {
      writeField(bytes, HEADER[name as keyof typeof HEADER], value);
    }
    if ('l1TableOffset' in patch) this.#storage.event?.('l1_grow_activate_table');
    if ('refcountTableOffset' in patch) this.#storage.event?.('refblock_alloc_switch_table');
    await this.#storage.write(0, bytes, 'header');
  }
}
