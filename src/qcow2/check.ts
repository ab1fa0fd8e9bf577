// Looks for errors in an image without changing it: what the refcounts say beside what the tables
// point to. Messages, their order and the counts are those of `qemu-img check`.

import { ImageError } from '../errors.ts';
import { divideUp } from '../units.ts';
import {
  COUNTER_BYTES,
  compareRange,
  tellingVisitor,
  tellMismatch,
  tellUnreadable,
} from './check-compare.ts';
import { CopiedCheck } from './check-copied.ts';
import { type CheckResult, Findings, type Tell, Usage } from './check-findings.ts';
import { checkClusterCount, clustersPerRange } from './reference-counts.ts';
import { readTable } from './reference-walk.ts';
import { countReferences, type ReferencedImage } from './references.ts';
import { readSnapshotTable, type Snapshot } from './snapshots.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

export type { CheckResult, FindingKind, Tell } from './check-findings.ts';

/**
 * `tell` gets each finding as it is made, in QEMU's words. Looks at the file, so that an image that
 * was written to has to be flushed before.
 */
export async function checkImage(given: ReferencedImage, tell: Tell): Promise<CheckResult> {
  const { storage, header, geometry, tables } = given;
  checkClusterCount(given);
  const findings = new Findings(tell);
  const snapshotTable = await readSnapshotTable(storage, header, {}).catch(inTableWords);
  for (const i of incompleteSnapshots(header.version, snapshotTable.snapshots)) {
    findings.corrupt(`ERROR snapshot table entry ${i} is incomplete`);
  }
  const image = { storage, header, geometry, tables, snapshotTable };
  const usage = new Usage(geometry.clusterSize);
  const stored = await storedRefcountsOf(image, findings.tell);
  const imageEndOffset = await compareRefcounts(image, stored, findings, usage);
  await new CopiedCheck(image, stored, findings).run();
  return resultOf(image, findings, usage, imageEndOffset);
}

export async function storedRefcountsOf(
  { storage, geometry, tables }: ReferencedImage,
  tell: Tell,
): Promise<StoredRefcounts> {
  const { offset, length } = tables.refcountTablePlace;
  const table = await readTable(storage, offset, length);
  return new StoredRefcounts(storage, geometry, table, (message) => tell(message, 'check-error'));
}

export function resultOf(
  { header, geometry }: ReferencedImage,
  { corruptions, leaks, checkErrors }: Findings,
  usage: Usage,
  imageEndOffset: number,
): CheckResult {
  return {
    corruptions,
    leaks,
    checkErrors,
    totalClusters: divideUp(header.size, geometry.clusterSize),
    allocatedClusters: usage.allocated,
    fragmentedClusters: usage.fragmented,
    compressedClusters: usage.compressed,
    imageEndOffset,
  };
}

export function inTableWords(error: unknown): never {
  if (!(error instanceof ImageError)) throw error;
  const { errno = 'EINVAL', hint } = error;
  const message = `ERROR failed to read the snapshot table: ${error.message}`;
  throw new ImageError(error.code, message, {
    cause: error,
    errno,
    ...(hint !== undefined && { hint }),
  });
}

/** Indexes of entries that lack what version 3 asks for. */
export function incompleteSnapshots(
  version: number,
  snapshots: readonly Snapshot[],
): readonly number[] {
  if (version < 3) return [];
  return snapshots.flatMap(({ hasDiskSize }, i) => (hasDiskSize ? [] : [i]));
}

/** Returns the first byte after the last cluster that is in use or marked so. */
async function compareRefcounts(
  image: ReferencedImage,
  stored: StoredRefcounts,
  findings: Findings,
  usage: Usage,
): Promise<number> {
  const { geometry } = image;
  const count = clustersPerRange(geometry, COUNTER_BYTES);
  const visitor = {
    ...tellingVisitor(findings, geometry),
    cluster: (host: number | null, previous: number | null, times: number) =>
      usage.add(host, previous, times),
  };
  const hear = {
    mismatch: tellMismatch.bind(null, findings),
    unreadable: tellUnreadable.bind(null, findings),
  };
  let last = -1;
  for (let [first, end] = [0, 1]; first < end; first += count) {
    const { overflow } = visitor;
    const heard = first === 0 ? visitor : { overflow };
    const counts = await countReferences(image, heard, { first, count });
    end = counts.end;
    last = Math.max(last, await compareRange(geometry, stored, counts, hear));
    counts.release();
  }
  return Math.max(1, last + 1) * geometry.clusterSize;
}
