// An image's file that has a data file beside it: what concerns both, as making durable and locking,
// is done to both. The bytes are those of the image's file.

import { FilterStorage } from '../io/filter.ts';
import type { Permission } from '../io/locks.ts';
import { permissionsFor } from '../io/permissions.ts';
import type { Storage } from '../io/storage.ts';

export class PairedStorage extends FilterStorage {
  readonly #data: Storage;

  constructor(image: Storage, data: Storage) {
    super(image);
    this.#data = data;
  }

  /** The data first: what the map says of it is written afterwards. */
  override async flush(): Promise<void> {
    await this.#data.flush();
    await super.flush();
  }

  override async makeWritable(
    use: readonly Permission[],
    share: readonly Permission[],
  ): Promise<void> {
    const data = permissionsFor('data', 'write');
    await super.makeWritable(use, share);
    await this.#data.makeWritable(data.use, data.share);
  }

  override async close(): Promise<void> {
    try {
      await this.#data.close();
    } finally {
      await super.close();
    }
  }
}
