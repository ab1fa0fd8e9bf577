// One round of a repair: what `qemu-img check -r` finds, in its words and its order, and puts right.
// Refcounts are changed in place where the structures are sound, else written anew.
//
// In place only clusters are written that hold nothing else: a table that shares its cluster with
// data of the guest is noted, and moves away after the round.

import { ImageError } from '../errors.ts';
import { SECTOR } from '../units.ts';
import { storedRefcountsOf } from './check.ts';
import {
  compareRange,
  type Mismatch,
  tellingVisitor,
  tellMismatch,
  tellUnreadable,
} from './check-compare.ts';
import { CopiedCheck } from './check-copied.ts';
import { Findings, type Tell, Usage } from './check-findings.ts';
import { viewOf } from './fields.ts';
import { clusterIndexOf } from './geometry.ts';
import { clusterOffset } from './l2-entry.ts';
import { OffsetCounts } from './offset-counts.ts';
import { setRefcount } from './refcount.ts';
import { type ClusterRange, type ReferenceCounts, rangesOf } from './reference-counts.ts';
import { type ReferenceVisitor, readTable } from './reference-walk.ts';
import { countReferences } from './references.ts';
import { mendZeros } from './repair-mend.ts';
import { REFCOUNTS_ONLY, renew } from './repair-renew.ts';
import { QUIET, type RepairState, readState } from './repair-state.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/** What is to be put right: space that nothing uses, or everything that can be. */
export type Fix = 'leaks' | 'all';

/** Leaks alone can't be put right. */
export class NeedsRebuild extends ImageError {
  constructor(filename: string) {
    super('corrupt', `${filename}: its refcounts have to be rebuilt`, {
      errno: 'EIO',
      hint: "'qimg-ts check -r all' does that.",
    });
  }
}

export class RepairRound {
  readonly findings: Findings;
  readonly usage: Usage;
  readonly #fix: Fix;
  readonly #told: Told;
  #state: RepairState;
  #last = -1;
  #rebuild = false;
  /** How many L1 entries point to each L2 table that lies where one may. */
  readonly #uses = new OffsetCounts();
  /** L2 tables with misplaced zeros, and whether they were walked before. */
  readonly #mended = new Map<number, 'now' | 'before'>();
  /** Clusters with more references than a refcount can say. */
  readonly #overflowed = new Set<number>();
  /** Clusters of refcount blocks past the end of the file -> references. */
  readonly #outside = new Map<number, number>();
  readonly #blockClusters = new Set<number>();
  /** Clusters of the refcount structure -> references, where it is about to be replaced. */
  readonly #old = new Map<number, number>();

  // What has to move.
  readonly l2Tables = new Set<number>();
  l1 = false;
  refcounts = false;
  /** The L1 table with its flags put right, where they could not be in place. */
  l1Table: Uint8Array | undefined;

  constructor(state: RepairState, fix: Fix, tell: Tell) {
    this.#state = state;
    this.#fix = fix;
    const findings = new Findings(tell);
    this.findings = findings;
    this.usage = new Usage(state.geometry.clusterSize);
    const telling = tellingVisitor(findings, state.geometry);
    this.#told = {
      ...telling,
      overflow: (cluster, times) => {
        this.#overflowed.add(cluster);
        telling.overflow(cluster, times);
      },
      l2Table: (offset) => this.#useL2(offset),
      refcountBlock: (cluster) => this.#blockClusters.add(cluster),
      badBlock: (message) => {
        this.#rebuild = true;
        findings.corrupt(message);
      },
      ...(fix === 'all' && {
        misplacedZeros: (host, table) => this.#zeros(host, table),
        blockOutside: (index, cluster) => this.#blockOutside(index, cluster),
      }),
    };
  }

  /** What the file has now. */
  get state(): RepairState {
    return this.#state;
  }

  /** Something has to move before all is right. */
  get deferred(): boolean {
    return this.l1 || this.refcounts || this.l2Tables.size > 0;
  }

  get imageEndOffset(): number {
    return Math.max(1, this.#last + 1) * this.#state.geometry.clusterSize;
  }

  async run(): Promise<void> {
    const { storage } = this.#state;
    let stored = await storedRefcountsOf(this.#state, this.findings.tell);
    const before = await this.#compare(stored);
    if (this.#rebuild && this.#fix === 'leaks') {
      this.findings.tell('ERROR need to rebuild refcount structures', 'check-error');
      throw new NeedsRebuild(storage.filename);
    }
    await storage.flush();
    if (this.#rebuild) stored = await this.#renewRefcounts();
    else if (this.findings.leaks > 0 || this.findings.corruptions > 0) {
      await this.#correct(stored, before);
    }
    const flags = this.#mayFlag() ? this.#flagWriter(stored) : undefined;
    await new CopiedCheck(this.#state, stored, this.findings, flags).run();
    await storage.flush();
    if (this.#fix === 'all') await this.#findShared(stored);
  }

  #mayFlag(): boolean {
    const { corruptions, leaks, checkErrors } = this.findings;
    return this.#fix === 'all' || (corruptions === 0 && leaks === 0 && checkErrors === 0);
  }

  #useL2(offset: number): void {
    const { storage, geometry } = this.#state;
    // Others are not asked about.
    if (offset < storage.size && offset % geometry.clusterSize === 0) this.#uses.add(offset);
    if (this.#mended.has(offset)) this.#mended.set(offset, 'before');
  }

  #zeros(host: number, table: number): void {
    if (this.#mended.get(table) === 'before') return;
    const at = host.toString(16);
    const what = 'Preallocated cluster is not properly aligned; L2 entry corrupted.';
    // The header is no table, and an L1 entry without a flag that leads there is none.
    if (table === 0) {
      this.findings.corrupt(`ERROR offset=${at}: ${what}`);
      return;
    }
    this.#mended.set(table, 'now');
    this.findings.tell(`Repairing offset=${at}: ${what}`, 'corruption');
    this.findings.corruptionsFixed++;
  }

  /** It is as lost as if the file were made longer, which is what QEMU does. */
  #blockOutside(index: number, cluster: number): void {
    this.findings.tell(`Repairing refcount block ${index} is outside image`, 'corruption');
    this.findings.corruptionsFixed++;
    this.#outside.set(cluster, (this.#outside.get(cluster) ?? 0) + 1);
  }

  /** Returns what was counted before refcounts were compared. */
  async #compare(stored: StoredRefcounts): Promise<Counted> {
    const { geometry } = this.#state;
    let before: Counted | undefined;
    const mismatch = (found: Mismatch): void => {
      if (found.refcount === 0) this.#rebuild = true;
      tellMismatch(this.findings, found);
    };
    const unreadable = (cluster: number) => tellUnreadable(this.findings, cluster);
    for (const range of rangesOf(this.#state)) {
      const counts = await this.#count(range);
      before ??= countedIn(this.findings);
      await this.#mend(range, counts);
      this.#noteOld(range, counts);
      const last = await compareRange(geometry, stored, counts, { mismatch, unreadable });
      counts.release();
      this.#last = Math.max(this.#last, last);
    }
    for (const [cluster, references] of [...this.#outside].sort(([a], [b]) => a - b)) {
      mismatch({ cluster, refcount: 0, references });
      this.#old.set(cluster, references);
    }
    return before ?? countedIn(this.findings);
  }

  /** The first walk tells what it meets, the others what they alone can. */
  #count(range: ClusterRange, again = false): Promise<ReferenceCounts> {
    const { overflow, broken, badBlock, repeated, pastEnd } = this.#told;
    const overflowing = { ...this.#quiet(), overflow };
    if (range.first > 0) return countReferences(this.#state, overflowing, range);
    const cluster: ReferenceVisitor['cluster'] = (host, previous, times) =>
      this.usage.add(host, previous, times);
    const told = { broken, badBlock, repeated, pastEnd };
    const visitor = again ? { ...overflowing, ...told } : { ...this.#told, cluster };
    return countReferences(this.#state, visitor, range);
  }

  #quiet(): ReferenceVisitor {
    return this.#fix === 'all' ? QUIET : {};
  }

  async #mend({ first, count }: ClusterRange, counts: ReferenceCounts): Promise<void> {
    const { storage, geometry } = this.#state;
    for (const offset of this.#mended.keys()) {
      const cluster = clusterIndexOf(offset, geometry);
      if (cluster < first || cluster >= first + count) continue;
      if (offset % geometry.clusterSize !== 0) continue;
      if (!this.#isUnshared(offset, counts.get(cluster))) this.l2Tables.add(offset);
      else {
        const table = await readTable(storage, offset, geometry.clusterSize);
        if (mendZeros(table, geometry)) await storage.write(offset, table, 'l2');
      }
    }
  }

  /** The cluster holds an L2 table, and nothing else. */
  #isUnshared(offset: number, references: number | bigint | 'unreadable'): boolean {
    const { geometry, storage } = this.#state;
    const cluster = clusterIndexOf(offset, geometry);
    return (
      offset % geometry.clusterSize === 0 &&
      offset < storage.size &&
      references === this.#uses.get(offset) &&
      !this.#overflowed.has(cluster)
    );
  }

  #noteOld({ first, count }: ClusterRange, counts: ReferenceCounts): void {
    if (this.#fix === 'leaks') return;
    for (const cluster of [...this.#blockClusters, ...this.#refcountTableClusters()]) {
      if (cluster >= first && cluster < first + count) this.#old.set(cluster, counts.get(cluster));
    }
  }

  #refcountTableClusters(): readonly number[] {
    const { tables, geometry } = this.#state;
    return clustersOf(tables.refcountTablePlace, geometry.clusterSize);
  }

  async #renewRefcounts(): Promise<StoredRefcounts> {
    const { storage } = this.#state;
    const { findings } = this;
    findings.tell('Rebuilding refcount structure', 'corruption');
    const old = countedIn(findings);
    await renew(this.#state, REFCOUNTS_ONLY);
    this.#state = await readState(storage);
    findings.corruptions = 0;
    findings.leaks = 0;
    this.#rebuild = false;
    // What the new structure can't help is told again.
    for (const range of rangesOf(this.#state)) {
      const counts = await this.#count(range, true);
      counts.release();
    }
    const stored = await storedRefcountsOf(this.#state, findings.tell);
    for (const [cluster, refcount] of [...this.#old].sort(([a], [b]) => a - b)) {
      const references = await stored.get(cluster);
      if (references === refcount) continue;
      const text = `cluster ${cluster} refcount=${refcount} reference=${references}`;
      findings.tell(`Repairing ${text}`, 'leak');
    }
    findings.corruptionsFixed += Math.max(0, old.corruptions - findings.corruptions);
    findings.leaksFixed += old.leaks;
    return stored;
  }

  /** Refcounts in place: blocks are sound, and each has its cluster for itself. */
  async #correct(stored: StoredRefcounts, before: Counted): Promise<void> {
    const { storage, geometry } = this.#state;
    const { findings } = this;
    Object.assign(findings, before);
    let changed = false;
    const mismatch = (found: Mismatch, block: Uint8Array | null, within: number): void => {
      const { cluster, refcount, references } = found;
      const isLeak = refcount > references;
      if (block === null || !(isLeak || this.#fix === 'all')) {
        tellMismatch(findings, found);
        return;
      }
      const text = `Repairing cluster ${cluster} refcount=${refcount} reference=${references}`;
      findings.tell(text, isLeak ? 'leak' : 'corruption');
      if (isLeak) findings.leaksFixed++;
      else findings.corruptionsFixed++;
      setRefcount(block, within, geometry.refcountOrder, references);
      changed = true;
    };
    const leave = async (index: number, block: Uint8Array | null): Promise<void> => {
      if (!changed || block === null) return;
      changed = false;
      const offset = stored.blockOffset(index);
      if (this.#overflowed.has(clusterIndexOf(offset, geometry))) this.refcounts = true;
      else await storage.write(offset, block, 'refcount-block');
    };
    const unreadable = (cluster: number) => tellUnreadable(findings, cluster);
    for (const range of rangesOf(this.#state)) {
      const counts = await countReferences(this.#state, this.#quiet(), range);
      const hear = { mismatch, unreadable, leave };
      this.#last = Math.max(this.#last, await compareRange(geometry, stored, counts, hear));
      counts.release();
    }
    await storage.flush();
  }

  #flagWriter(stored: StoredRefcounts): ConstructorParameters<typeof CopiedCheck>[3] {
    const { storage, geometry, tables } = this.#state;
    return {
      l2: async (offset, table) => {
        const refcount = await stored.get(clusterIndexOf(offset, geometry));
        if (this.#isUnshared(offset, refcount)) await storage.write(offset, table, 'l2');
        else this.l2Tables.add(offset);
      },
      l1: async (table, sectors) => {
        this.l1 = await this.#sharesL1(stored);
        if (this.l1) {
          this.l1Table = table;
          return;
        }
        for (const sector of sectors) {
          const at = sector * SECTOR;
          await storage.write(tables.l1Offset + at, table.subarray(at, at + SECTOR), 'l1');
        }
      },
    };
  }

  async #sharesL1(stored: StoredRefcounts): Promise<boolean> {
    const { tables } = this.#state;
    const place = { offset: tables.l1Offset, length: tables.l1Entries * 8 };
    return await this.#isShared(place, stored);
  }

  async #isShared(place: Place, stored: StoredRefcounts): Promise<boolean> {
    for (const cluster of clustersOf(place, this.#state.geometry.clusterSize)) {
      if ((await stored.get(cluster)) !== 1 || this.#overflowed.has(cluster)) return true;
    }
    return false;
  }

  /** Tables of the active state that lie where something else is, too. */
  async #findShared(stored: StoredRefcounts): Promise<void> {
    const { storage, geometry, tables } = this.#state;
    const l1 = viewOf(await readTable(storage, tables.l1Offset, tables.l1Entries * 8));
    for (let at = 0; at < l1.byteLength; at += 8) {
      const offset = clusterOffset(l1.getUint32(at), l1.getUint32(at + 4));
      if (offset === 0 || offset % geometry.clusterSize !== 0 || offset >= storage.size) continue;
      const cluster = clusterIndexOf(offset, geometry);
      const refcount = stored.atHand(cluster) ?? (await stored.get(cluster));
      const uses = this.#uses.get(offset);
      const overflows = this.#overflowed.has(cluster) && uses === 1;
      if (refcount !== 'unreadable' && (refcount > uses || overflows)) this.l2Tables.add(offset);
    }
    this.l1 ||= this.l2Tables.size > 0 || (await this.#sharesL1(stored));
    this.refcounts ||= await this.#isShared(tables.refcountTablePlace, stored);
  }
}

interface Place {
  readonly offset: number;
  readonly length: number;
}

type Told = ReferenceVisitor &
  Required<Pick<ReferenceVisitor, 'overflow' | 'broken' | 'badBlock' | 'repeated' | 'pastEnd'>>;

type Counted = Pick<Findings, 'corruptions' | 'leaks' | 'checkErrors'>;

function countedIn({ corruptions, leaks, checkErrors }: Findings): Counted {
  return { corruptions, leaks, checkErrors };
}

function clustersOf({ offset, length }: Place, clusterSize: number): readonly number[] {
  const first = Math.floor(offset / clusterSize);
  return Array.from({ length: Math.ceil(length / clusterSize) }, (_, i) => first + i);
}
