// A check whose findings are data.

import { ImageError } from '../errors.ts';
import { checkImage as checkEngineImage } from '../qcow2/check.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { OpenOptions } from './chain.ts';
import { checkCount } from './checks.ts';
import { openEngine } from './engine-chain.ts';
import { collectFindings } from './findings.ts';
import type { ImageSource } from './source.ts';
import { stoppable } from './stoppable.ts';

/** How {@link checkImage} looks at an image. */
export interface CheckOptions
  extends Pick<OpenOptions, 'signal' | 'format' | 'cache' | 'forceShare' | 'host'> {
  /** Findings that are listed; all are counted. 0 to 1,000,000. Default 1,000. */
  readonly maxFindings?: number;
}

/** One thing that is wrong with an image. */
export interface Finding {
  /**
   * - `corruption`: the image contradicts itself; data may be wrong or may get lost.
   * - `leak`: space that nothing uses; harmless.
   * - `check-error`: something could not be checked.
   */
  readonly kind: 'corruption' | 'leak' | 'check-error';
  /** In the words of `qemu-img check`. */
  readonly message: string;
}

/** What {@link checkImage} found. An image is sound where all three counts are 0. */
export interface CheckReport {
  /** What contradicts itself; one finding may stand for several. */
  readonly corruptions: number;
  /** Clusters that nothing uses. */
  readonly leaks: number;
  /** What could not be checked. */
  readonly checkErrors: number;
  /** The first of them, in the order in which `qemu-img check` tells them. */
  readonly findings: readonly Finding[];
  /** Clusters of the virtual disk. */
  readonly totalClusters: number;
  /** Those that the active state holds. */
  readonly allocatedClusters: number;
  /** Those of them that are compressed. */
  readonly compressedClusters: number;
  /** Those that do not lie behind their predecessor in the file, and all compressed ones. */
  readonly fragmentedClusters: number;
  /** First byte of the file after the last cluster in use. */
  readonly imageEndOffset: number;
}

/**
 * Compares what a qcow2 image's refcounts say with what its tables point to, internal snapshots and
 * bitmaps included. Changes nothing and needs no backing file. A finding is no error: rejects only
 * where the image can't be checked, with `unsupported` (a raw file, too large), `format`, `corrupt`
 * (not even its header or snapshot table can be read), `not-found`, `busy`, `io` or `invalid` (an
 * option, a description).
 *
 * Source: the specification's "Host cluster management"; messages and counts are `qemu-img check`'s.
 */
export async function checkImage(
  source: ImageSource,
  options: CheckOptions = {},
): Promise<CheckReport> {
  const { maxFindings = 1000, signal, ...rest } = options;
  checkCount('maxFindings', maxFindings, 1_000_000);
  const open = { ...rest, backing: false, describe: true, ...(signal && { signal }) };
  const chain = await openEngine(source, open);
  try {
    const image = chain.top;
    if (!(image instanceof Qcow2Image)) {
      throw new ImageError('unsupported', `${image.filename}: raw images can't be checked`);
    }
    const { header, geometry, tables } = image;
    const storage = stoppable(image.storage, signal);
    const { findings, tell } = collectFindings(maxFindings);
    const counts = await checkEngineImage({ storage, header, geometry, tables }, tell);
    return { ...counts, findings };
  } finally {
    await chain.close();
  }
}
