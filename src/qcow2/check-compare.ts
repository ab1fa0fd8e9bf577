// Refcounts as the file has them beside the references that there are, for a range of clusters.

import type { Findings } from './check-findings.ts';
import type { Geometry } from './geometry.ts';
import type { ReferenceCounts } from './reference-counts.ts';
import type { ReferenceVisitor } from './reference-walk.ts';
import type { StoredRefcount, StoredRefcounts } from './stored-refcounts.ts';

/** Bound for the counters in memory; more clusters are checked in several walks over the tables. */
export const COUNTER_BYTES = 64 * 1024 * 1024;

const ADVICE =
  'Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean ' +
  'copy if the image cannot be opened for writing';

/** A refcount that is not the number of references. */
export interface Mismatch {
  readonly cluster: number;
  readonly refcount: number | bigint;
  readonly references: number;
}

/** Hears of each mismatch, in order; `within`: its entry in the block, which may be changed. */
export type OnMismatch = (mismatch: Mismatch, block: Uint8Array | null, within: number) => void;

/**
 * Returns the index of the last cluster in use or marked so; -1 without one. `unreadable` hears of
 * each cluster whose refcount can't be read, `leave` of each block that was looked through.
 */
export async function compareRange(
  { refcountBlockEntries }: Geometry,
  stored: StoredRefcounts,
  counts: ReferenceCounts,
  hear: {
    readonly mismatch: OnMismatch;
    readonly unreadable: (cluster: number) => void;
    readonly leave?: (blockIndex: number, block: Uint8Array | null) => Promise<void>;
  },
): Promise<number> {
  const end = counts.first + counts.counts.length;
  let last = -1;
  for (let cluster = counts.first; cluster < end; ) {
    const blockIndex = Math.floor(cluster / refcountBlockEntries);
    const block = await stored.block(blockIndex);
    const stop = Math.min(end, (blockIndex + 1) * refcountBlockEntries);
    // Most of a sparse file has neither.
    if (block === null && !counts.anyIn(cluster, stop)) cluster = stop;
    for (; cluster < stop; cluster++) {
      const within = cluster % refcountBlockEntries;
      const refcount: StoredRefcount = stored.getIn(block, within);
      const references = counts.get(cluster);
      if (refcount === 'unreadable') {
        hear.unreadable(cluster);
        continue;
      }
      if (refcount > 0 || references > 0) last = cluster;
      if (refcount === references) continue;
      const bytes = block === 'unreadable' ? null : block;
      hear.mismatch({ cluster, refcount, references }, bytes, within);
    }
    await hear.leave?.(blockIndex, block === 'unreadable' ? null : block);
  }
  return last;
}

/** Tells of a mismatch that stays as it is. */
export function tellMismatch(
  findings: Findings,
  { cluster, refcount, references }: Mismatch,
): void {
  const text = () => `cluster ${cluster} refcount=${refcount} reference=${references}`;
  if (refcount < references) findings.corrupt(() => `ERROR ${text()}`);
  else {
    findings.tell(() => `Leaked ${text()}`, 'leak');
    findings.leaks++;
  }
}

export function tellUnreadable(findings: Findings, cluster: number): void {
  findings.tell(`Can't get refcount for cluster ${cluster}: Input/output error`, 'check-error');
  findings.checkErrors++;
}

/** Tells of what a walk over the tables meets. */
export function tellingVisitor(
  { corrupt }: Findings,
  { clusterSize }: Geometry,
): Required<Pick<ReferenceVisitor, 'overflow' | 'broken' | 'repeated' | 'pastEnd'>> {
  return {
    broken: (message) => corrupt(message),
    repeated: (times) => corrupt(null, times),
    overflow: (cluster, times) => {
      const offset = cluster * clusterSize;
      corrupt(() => `ERROR: overflow cluster offset=0x${offset.toString(16)}\n${ADVICE}`, times);
    },
    pastEnd: (offset, length) =>
      corrupt(
        () =>
          'ERROR: counting reference for region exceeding the end of the file by one cluster or ' +
          `more: offset 0x${offset.toString(16)} size 0x${length.toString(16)}`,
      ),
  };
}
