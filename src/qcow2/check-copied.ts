// The COPIED flags of the active state: they must say whether the refcount is exactly one.

import { SECTOR } from '../units.ts';
import type { Findings } from './check-findings.ts';
import { viewOf } from './fields.ts';
import { clusterIndexOf } from './geometry.ts';
import { Holes } from './holes.ts';
import { clusterOffset } from './l2-entry.ts';
import { OffsetCounts } from './offset-counts.ts';
import { entriesInFile, entryHex, readTable } from './reference-walk.ts';
import type { ReferencedImage } from './references.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, INCOMPATIBLE, ZERO_LOW } from './spec.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';
import { TableWindow } from './table-window.ts';
import { WalkBudget } from './walk-budget.ts';

/** So often the errors of one L2 table are told, should many L1 entries point to it. */
const TELLINGS = 64;

/** Who writes tables whose flags were put right. */
export interface FlagWriter {
  l2(offset: number, table: Uint8Array): Promise<void>;
  /** `sectors`: indexes of those that changed. */
  l1(table: Uint8Array, sectors: ReadonlySet<number>): Promise<void>;
}

export class CopiedCheck {
  readonly #image: ReferencedImage;
  readonly #stored: StoredRefcounts;
  readonly #findings: Findings;
  readonly #writer: FlagWriter | undefined;
  readonly #hasDataFile: boolean;
  readonly #window: TableWindow;
  /** For a table that has to be read by itself. */
  readonly #table: Uint8Array;
  readonly #holes: Holes;
  readonly #budget = new WalkBudget();
  /** How often L2 tables were met. */
  readonly #met = new OffsetCounts();
  /** Offset of an L2 table -> errors that are left in it. */
  readonly #errors = new OffsetCounts();

  /** With a `writer` the flags are put right. */
  constructor(
    image: ReferencedImage,
    stored: StoredRefcounts,
    findings: Findings,
    writer?: FlagWriter,
  ) {
    this.#image = image;
    this.#stored = stored;
    this.#findings = findings;
    this.#writer = writer;
    const { incompatibleFeatures } = image.header;
    this.#hasDataFile = (incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n;
    this.#window = new TableWindow(image.storage, image.geometry.clusterSize);
    this.#table = new Uint8Array(image.geometry.clusterSize);
    this.#holes = new Holes(image.storage);
  }

  async run(): Promise<void> {
    const { storage, geometry, tables } = this.#image;
    const entries = entriesInFile(storage, tables.l1Offset, tables.l1Entries);
    // Who writes gets all of it.
    const length = this.#writer === undefined ? entries : tables.l1Entries;
    const bytes = await readTable(storage, tables.l1Offset, length * 8);
    const l1 = viewOf(bytes);
    const changed = new Set<number>();
    for (let index = 0; index < entries; index++) {
      const high = l1.getUint32(index * 8);
      const low = l1.getUint32(index * 8 + 4);
      const offset = clusterOffset(high, low);
      if (offset === 0) continue;
      const cluster = clusterIndexOf(offset, geometry);
      const refcount = this.#stored.atHand(cluster) ?? (await this.#stored.get(cluster));
      // Where it can't be read, the comparison of the refcounts has said so.
      if (refcount === 'unreadable') continue;
      if ((refcount === 1) !== ((high & COPIED_HIGH) !== 0)) {
        this.#found(
          `OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${entryHex(high, low)} ` +
            `refcount=${refcount}`,
        );
        this.#flip(l1, index * 8);
        changed.add(Math.floor((index * 8) / SECTOR));
      }
      if (this.#window.at(offset) === undefined) {
        const isHole = this.#holes.has(offset, geometry.clusterSize);
        if (isHole === true || (isHole !== false && (await isHole))) continue;
      }
      if (this.#isNew(offset)) await this.#meet(offset);
    }
    if (changed.size > 0) await this.#writer?.l1(bytes, changed);
  }

  /** Tells of a flag that is wrong, or that is put right. */
  #found(what: string): void {
    if (this.#writer === undefined) this.#findings.corrupt(`ERROR ${what}`);
    else {
      this.#findings.tell(`Repairing ${what}`, 'corruption');
      this.#findings.corruptionsFixed++;
    }
  }

  #flip(view: DataView, at: number): void {
    view.setUint32(at, (view.getUint32(at) ^ COPIED_HIGH) >>> 0);
  }

  /** Meets a table; false where there is nothing more to tell of it, but the number of its errors. */
  #isNew(offset: number): boolean {
    const times = this.#met.add(offset);
    const known = this.#errors.get(offset);
    // What was right once is right again, and so is what was put right.
    if (times === 1 || (known > 0 && times <= TELLINGS && this.#mayTellAgain())) return true;
    this.#findings.corrupt(null, known);
    return false;
  }

  async #meet(offset: number): Promise<void> {
    const errors = await this.#l2(offset);
    const known = this.#errors.get(offset);
    if (errors !== known) this.#errors.add(offset, errors - known);
  }

  #mayTellAgain(): boolean {
    return this.#budget.spend(this.#table.length / this.#image.geometry.l2EntryBytes);
  }

  /** Returns how many errors are left in a table. */
  async #l2(offset: number): Promise<number> {
    const { storage, geometry } = this.#image;
    const ahead = this.#window.at(offset) ?? (await this.#window.fetch(offset));
    if (ahead === undefined) await storage.read(offset, this.#table);
    const view = ahead?.view ?? viewOf(this.#table);
    let errors = 0;
    for (let at = 0; at < geometry.clusterSize; at += geometry.l2EntryBytes) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      const host = clusterOffset(high, low);
      if (high & COMPRESSED_HIGH || (host === 0 && !this.#hasDataFile)) continue;
      if (host === 0 && (!(high & COPIED_HIGH) || this.#isPlainZero(low))) continue;
      const refcount = this.#hasDataFile
        ? 1
        : (this.#stored.atHand(clusterIndexOf(host, geometry)) ??
          (await this.#stored.get(clusterIndexOf(host, geometry))));
      if (refcount === 'unreadable') continue;
      if ((refcount === 1) === ((high & COPIED_HIGH) !== 0)) continue;
      errors++;
      this.#found(
        `OFLAG_COPIED data cluster: l2_entry=${entryHex(high, low)} refcount=${refcount}`,
      );
      this.#flip(view, at);
    }
    if (errors === 0 || this.#writer === undefined) return errors;
    await this.#writer.l2(offset, ahead?.bytes ?? this.#table);
    return 0;
  }

  #isPlainZero(low: number): boolean {
    return this.#image.geometry.l2EntryBytes === 8 && (low & ZERO_LOW) !== 0;
  }
}
