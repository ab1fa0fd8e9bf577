// The COPIED flags of the active state: they must say whether the refcount is exactly one.

import { MIB } from '../units.ts';
import { viewOf } from './fields.ts';
import { clusterIndexOf } from './geometry.ts';
import { clusterOffset } from './l2-entry.ts';
import { OffsetCounts } from './offset-counts.ts';
import { entryHex, Holes, MAX_UNALIGNED_TABLES, readTable } from './reference-walk.ts';
import type { ReferencedImage } from './references.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, INCOMPATIBLE, ZERO_LOW } from './spec.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/** So often the errors of one L2 table are told, should many L1 entries point to it. */
const TELLINGS = 64;
/** And so many bytes of tables are walked for it. */
const MAX_WALKED_AGAIN = 32 * MIB;

export class CopiedCheck {
  readonly #image: ReferencedImage;
  readonly #stored: StoredRefcounts;
  readonly #corrupt: (message: string | null, times?: number) => void;
  readonly #hasDataFile: boolean;
  readonly #table: Uint8Array;
  /** How often an L2 table was met, and the errors in it. */
  readonly #met = new OffsetCounts();
  readonly #errors = new OffsetCounts();
  readonly #holes: Holes;
  #walkedAgain = 0;
  #unaligned = 0;

  constructor(
    image: ReferencedImage,
    stored: StoredRefcounts,
    corrupt: (message: string | null, times?: number) => void,
  ) {
    this.#image = image;
    this.#stored = stored;
    this.#corrupt = corrupt;
    const { incompatibleFeatures } = image.header;
    this.#hasDataFile = (incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n;
    this.#table = new Uint8Array(image.geometry.clusterSize);
    this.#holes = new Holes(image.storage);
  }

  async run(): Promise<void> {
    const { storage, geometry, tables } = this.#image;
    const l1 = viewOf(await readTable(storage, tables.l1Offset, tables.l1Entries * 8));
    for (let index = 0; index < tables.l1Entries; index++) {
      const high = l1.getUint32(index * 8);
      const low = l1.getUint32(index * 8 + 4);
      const offset = clusterOffset(high, low);
      if (offset === 0) continue;
      const refcount = await this.#stored.get(clusterIndexOf(offset, geometry));
      // Where it can't be read, the comparison of the refcounts has said so.
      if (refcount === 'unreadable') continue;
      if ((refcount === 1) !== ((high & COPIED_HIGH) !== 0)) {
        this.#corrupt(
          `ERROR OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${entryHex(high, low)} ` +
            `refcount=${refcount}`,
        );
      }
      await this.#meet(offset);
    }
  }

  async #meet(offset: number): Promise<void> {
    const { clusterSize } = this.#image.geometry;
    if (offset % clusterSize !== 0 && this.#unaligned++ >= MAX_UNALIGNED_TABLES) return;
    if (await this.#holes.has(offset, clusterSize)) return;
    const times = this.#met.add(offset);
    if (times === 1) {
      const found = await this.#l2(offset);
      if (found > 0) this.#errors.add(offset, found);
      return;
    }
    // What was right once is right again.
    const errors = this.#errors.get(offset);
    if (errors === 0) return;
    this.#walkedAgain += clusterSize;
    if (times <= TELLINGS && this.#walkedAgain <= MAX_WALKED_AGAIN) await this.#l2(offset);
    else this.#corrupt(null, errors);
  }

  async #l2(offset: number): Promise<number> {
    const { storage, geometry } = this.#image;
    await storage.read(offset, this.#table);
    const view = viewOf(this.#table);
    let errors = 0;
    for (let at = 0; at < geometry.clusterSize; at += geometry.l2EntryBytes) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      const host = clusterOffset(high, low);
      if (high & COMPRESSED_HIGH || (host === 0 && !this.#hasDataFile)) continue;
      if (host === 0 && (!(high & COPIED_HIGH) || this.#isPlainZero(low))) continue;
      const refcount = this.#hasDataFile
        ? 1
        : await this.#stored.get(clusterIndexOf(host, geometry));
      if (refcount === 'unreadable') continue;
      if ((refcount === 1) === ((high & COPIED_HIGH) !== 0)) continue;
      errors++;
      this.#corrupt(
        `ERROR OFLAG_COPIED data cluster: l2_entry=${entryHex(high, low)} refcount=${refcount}`,
      );
    }
    return errors;
  }

  #isPlainZero(low: number): boolean {
    return this.#image.geometry.l2EntryBytes === 8 && (low & ZERO_LOW) !== 0;
  }
}
