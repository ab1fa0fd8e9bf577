// Looks for errors in an image without changing it: what the refcounts say beside what the tables
// point to. Messages, their order and the counts are those of `qemu-img check`.

import { ImageError } from '../errors.ts';
import { divideUp } from '../units.ts';
import { CopiedCheck } from './check-copied.ts';
import { clustersPerRange } from './reference-counts.ts';
import { readTable } from './reference-walk.ts';
import { countReferences, type ReferenceCounts, type ReferencedImage } from './references.ts';
import { readSnapshotTable } from './snapshots.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

/** What a message is about; `check-error`: something could not be checked. */
export type FindingKind = 'corruption' | 'leak' | 'check-error';

const ADVICE =
  'Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean ' +
  'copy if the image cannot be opened for writing';

export type Tell = (message: string, kind: FindingKind) => void;

export interface CheckResult {
  readonly corruptions: number;
  readonly leaks: number;
  /** What could not be checked. */
  readonly checkErrors: number;
  /** Clusters of the virtual disk. */
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  /** First byte after the last cluster in use. */
  readonly imageEndOffset: number;
}

/** Clusters of a file that can be checked: what QEMU takes. */
const MAX_CLUSTERS = 2 ** 31 - 1;
/** Bound for the counters in memory; more clusters are checked in several walks over the tables. */
const COUNTER_BYTES = 128 * 1024 * 1024;
/** A hostile image has room for billions of errors. */
const MAX_MESSAGES = 1_000_000;

/**
 * `tell` gets each finding as it is made, in QEMU's words. Looks at the file, so that an image that
 * was written to has to be flushed before.
 */
export async function checkImage(image: ReferencedImage, tell: Tell): Promise<CheckResult> {
  const { storage, header, geometry, tables } = image;
  if (divideUp(storage.size, geometry.clusterSize) > MAX_CLUSTERS) {
    throw new ImageError('unsupported', 'The file has too many clusters', { errno: 'EFBIG' });
  }
  const findings = new Findings(tell);
  await checkSnapshotTable(image, findings);
  const usage = new Usage(geometry.clusterSize);
  const refcountTable = tables.refcountTablePlace;
  const stored = new StoredRefcounts(
    storage,
    geometry,
    await readTable(storage, refcountTable.offset, refcountTable.length),
    (message) => findings.tell(message, 'check-error'),
  );
  const imageEndOffset = await compareRefcounts(image, stored, findings, usage);
  await new CopiedCheck(image, stored, findings.corrupt).run();
  return {
    corruptions: findings.corruptions,
    leaks: findings.leaks,
    checkErrors: findings.checkErrors,
    totalClusters: divideUp(header.size, geometry.clusterSize),
    allocatedClusters: usage.allocated,
    fragmentedClusters: usage.fragmented,
    compressedClusters: usage.compressed,
    imageEndOffset,
  };
}

class Findings {
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  readonly #tell: Tell;
  #messages = 0;

  constructor(tell: Tell) {
    this.#tell = tell;
  }

  /** Words are made only where they are told. */
  readonly tell = (message: string | (() => string), kind: FindingKind): void => {
    this.#messages++;
    if (this.#messages > MAX_MESSAGES + 1) return;
    const isLast = this.#messages === MAX_MESSAGES + 1;
    const words = typeof message === 'string' ? message : message();
    this.#tell(isLast ? '(further messages are left out)' : words, kind);
  };

  /** `times` that are told about only once. */
  readonly corrupt = (message: string | (() => string) | null, times = 1): void => {
    if (message !== null) this.tell(message, 'corruption');
    this.corruptions += times;
  };
}

/** How the active state lies in the file. */
class Usage {
  allocated = 0;
  fragmented = 0;
  compressed = 0;
  readonly #clusterSize: number;

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  add(host: number | null, previous: number | null, times: number): void {
    this.allocated += times;
    if (host === null) {
      this.compressed += times;
      // They share sectors, and so are fragmented by nature.
      this.fragmented += times;
    } else if (previous !== null && host !== previous + this.#clusterSize) {
      this.fragmented += times;
    }
  }
}

async function checkSnapshotTable(
  { storage, header }: ReferencedImage,
  findings: Findings,
): Promise<void> {
  const { snapshots } = await readSnapshotTable(storage, header).catch((error: unknown) => {
    if (!(error instanceof ImageError)) throw error;
    const { errno = 'EINVAL', hint } = error;
    const message = `ERROR failed to read the snapshot table: ${error.message}`;
    throw new ImageError(error.code, message, { errno, ...(hint !== undefined && { hint }) });
  });
  if (header.version < 3) return;
  snapshots.forEach(({ hasDiskSize }, i) => {
    if (!hasDiskSize) findings.corrupt(`ERROR snapshot table entry ${i} is incomplete`);
  });
}

/** Returns the first byte after the last cluster that is in use or marked so. */
async function compareRefcounts(
  image: ReferencedImage,
  stored: StoredRefcounts,
  findings: Findings,
  usage: Usage,
): Promise<number> {
  const { corrupt } = findings;
  const count = clustersPerRange(image.geometry, COUNTER_BYTES);
  const overflow = (cluster: number, times: number): void => {
    const offset = cluster * image.geometry.clusterSize;
    corrupt(() => `ERROR: overflow cluster offset=0x${offset.toString(16)}\n${ADVICE}`, times);
  };
  const visitor = {
    overflow,
    broken: (message: string) => corrupt(message),
    repeated: (times: number) => corrupt(null, times),
    pastEnd: (offset: number | bigint, length: number) =>
      corrupt(
        () =>
          'ERROR: counting reference for region exceeding the end of the file by one cluster or ' +
          `more: offset 0x${offset.toString(16)} size 0x${length.toString(16)}`,
      ),
    cluster: (host: number | null, previous: number | null, times: number) =>
      usage.add(host, previous, times),
  };
  let counts = await countReferences(image, visitor, { first: 0, count });
  const { end } = counts;
  let last = -1;
  for (let first = 0; first < end; first += count) {
    if (first > 0) counts = await countReferences(image, { overflow }, { first, count });
    last = Math.max(last, await compareRange(image, stored, counts, findings));
  }
  return Math.max(1, last + 1) * image.geometry.clusterSize;
}

/** Returns the index of the last cluster in use or marked so; -1 without one. */
async function compareRange(
  { geometry }: ReferencedImage,
  stored: StoredRefcounts,
  counts: ReferenceCounts,
  findings: Findings,
): Promise<number> {
  const { refcountBlockEntries } = geometry;
  const end = counts.first + counts.counts.length;
  let last = -1;
  for (let cluster = counts.first; cluster < end; ) {
    const blockIndex = Math.floor(cluster / refcountBlockEntries);
    const block = await stored.block(blockIndex);
    const stop = Math.min(end, (blockIndex + 1) * refcountBlockEntries);
    if (block === null && !counts.anyIn(cluster, stop)) {
      cluster = stop;
      continue;
    }
    for (; cluster < stop; cluster++) {
      const refcount = stored.getIn(block, cluster % refcountBlockEntries);
      const references = counts.get(cluster);
      if (refcount === 'unreadable') {
        findings.tell(
          `Can't get refcount for cluster ${cluster}: Input/output error`,
          'check-error',
        );
        findings.checkErrors++;
        continue;
      }
      if (refcount > 0 || references > 0) last = cluster;
      if (refcount === references) continue;
      const at = cluster;
      const text = () => `cluster ${at} refcount=${refcount} reference=${references}`;
      if (refcount < references) findings.corrupt(() => `ERROR ${text()}`);
      else {
        findings.tell(() => `Leaked ${text()}`, 'leak');
        findings.leaks++;
      }
    }
  }
  return last;
}
