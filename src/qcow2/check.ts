// Looks for errors in an image without changing it: what the refcounts say beside what the tables
// point to. Messages and counts are those of `qemu-img check`.

import { divideUp } from '../units.ts';
import { clusterIndexOf } from './geometry.ts';
import { clusterOffset } from './l2-entry.ts';
import { getRefcount } from './refcount.ts';
import {
  countReferences,
  eachL2Table,
  entryHex,
  type ReferenceCounts,
  type ReferencedImage,
  readL1,
} from './references.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, INCOMPATIBLE } from './spec.ts';

export interface CheckResult {
  readonly corruptions: number;
  readonly leaks: number;
  /** Clusters of the virtual disk. */
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  /** First byte after the last cluster in use. */
  readonly imageEndOffset: number;
}

/** `tell` gets each finding as it is made, in QEMU's words. */
export async function checkImage(
  image: ReferencedImage,
  tell: (message: string) => void,
): Promise<CheckResult> {
  const findings = { corruptions: 0, leaks: 0 };
  const corrupt = (message: string): void => {
    tell(message);
    findings.corruptions++;
  };
  const usage = new Usage(image.geometry.clusterSize);
  const counts = await countReferences(image, {
    pastEnd: (offset, length) =>
      corrupt(
        'ERROR: counting reference for region exceeding the end of the file by one cluster or ' +
          `more: offset 0x${offset.toString(16)} size 0x${length.toString(16)}`,
      ),
    broken: corrupt,
    l1Entry: () => usage.startTable(),
    l2Entry: (kind, host) => usage.add(kind, host),
  });
  const imageEndOffset = await compareRefcounts(image, counts, corrupt, (message) => {
    tell(message);
    findings.leaks++;
  });
  await compareCopied(image, corrupt);
  return {
    ...findings,
    totalClusters: divideUp(image.header.size, image.geometry.clusterSize),
    allocatedClusters: usage.allocated,
    fragmentedClusters: usage.fragmented,
    compressedClusters: usage.compressed,
    imageEndOffset,
  };
}

/** How the active state lies in the file. */
class Usage {
  allocated = 0;
  fragmented = 0;
  compressed = 0;
  readonly #clusterSize: number;
  #next = 0;

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  startTable(): void {
    this.#next = 0;
  }

  add(kind: 'data' | 'zero' | 'compressed', host: number): void {
    if (kind === 'zero') return;
    this.allocated++;
    if (kind === 'compressed') {
      this.compressed++;
      // They share sectors, and so are fragmented by nature.
      this.fragmented++;
      return;
    }
    if (this.#next !== 0 && host !== this.#next) this.fragmented++;
    this.#next = host + this.#clusterSize;
  }
}

/** Returns the first byte after the last cluster that is in use or marked so. */
async function compareRefcounts(
  { geometry, tables }: ReferencedImage,
  counts: ReferenceCounts,
  corrupt: (message: string) => void,
  leaked: (message: string) => void,
): Promise<number> {
  const { refcountBlockEntries, refcountOrder, clusterSize } = geometry;
  const clusters = counts.counts.length;
  let last = -1;
  for (let first = 0; first < clusters; first += refcountBlockEntries) {
    const block = await tables.refcountBlock(first / refcountBlockEntries);
    const count = Math.min(refcountBlockEntries, clusters - first);
    for (let within = 0; within < count; within++) {
      const refcount = block === null ? 0 : getRefcount(block.bytes, within, refcountOrder);
      const references = counts.get(first + within);
      if (refcount > 0 || references > 0) last = first + within;
      if (refcount === references) continue;
      const text = `cluster ${first + within} refcount=${refcount} reference=${references}`;
      if (refcount < references) corrupt(`ERROR ${text}`);
      else leaked(`Leaked ${text}`);
    }
  }
  return (last + 1) * clusterSize;
}

/** COPIED in the active state must say whether the refcount is exactly one. */
async function compareCopied(
  image: ReferencedImage,
  corrupt: (message: string) => void,
): Promise<void> {
  const { geometry, header, storage, tables } = image;
  const { clusterSize, l2EntryBytes } = geometry;
  const external = (header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n;
  const refcount = (host: number) => tables.refcount(clusterIndexOf(host, geometry));
  const l1 = await readL1(storage, tables.l1Offset, tables.l1Entries);
  const l1View = new DataView(l1.buffer);
  for await (const { index, offset, view } of eachL2Table(image, l1)) {
    const l1High = l1View.getUint32(index * 8);
    const tableRefcount = await refcount(offset);
    if ((tableRefcount === 1) !== ((l1High & COPIED_HIGH) !== 0)) {
      const text = entryHex(l1High, l1View.getUint32(index * 8 + 4));
      corrupt(
        `ERROR OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${text} ` +
          `refcount=${tableRefcount}`,
      );
    }
    for (let at = 0; !external && at < clusterSize; at += l2EntryBytes) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      const host = high & COMPRESSED_HIGH ? 0 : clusterOffset(high, low);
      if (host === 0) continue;
      const count = await refcount(host);
      if ((count === 1) === ((high & COPIED_HIGH) !== 0)) continue;
      corrupt(`ERROR OFLAG_COPIED data cluster: l2_entry=${entryHex(high, low)} refcount=${count}`);
    }
  }
}
