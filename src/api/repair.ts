// A repair whose findings are data.

import { ImageError } from '../errors.ts';
import { OverlayStorage } from '../io/overlay.ts';
import { checkImage as checkEngineImage } from '../qcow2/check.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { repairImage as repairEngineImage } from '../qcow2/repair.ts';
import { readState } from '../qcow2/repair-state.ts';
import type { OpenOptions } from './chain.ts';
import type { CheckReport, Finding } from './check.ts';
import { checkChoice, checkCount } from './checks.ts';
import { openEngine } from './engine-chain.ts';
import { collectFindings } from './findings.ts';
import type { ImageSource } from './source.ts';
import { stoppable } from './stoppable.ts';

/** How {@link repairImage} repairs an image. */
export interface RepairOptions extends Pick<OpenOptions, 'signal' | 'format' | 'cache' | 'host'> {
  /**
   * What is put right: `leaks`, space that nothing uses, given back, or `all`, everything that can
   * be. Default `all`.
   */
  readonly fix?: 'leaks' | 'all';
  /** Tells what would be done, and writes nothing. Default false. */
  readonly dryRun?: boolean;
  /** Findings that are listed, each time; all are counted. 0 to 1,000,000. Default 1,000. */
  readonly maxFindings?: number;
}

/** What {@link repairImage} did. */
export interface RepairReport {
  /** Clusters that nothing uses, given back. */
  readonly leaksFixed: number;
  /** Contradictions that were put right. */
  readonly corruptionsFixed: number;
  /** What was found on the way, in the order and the words of `qemu-img check -r`. */
  readonly findings: readonly Finding[];
  /** What a check finds afterwards. The image is sound where all three counts are 0. */
  readonly after: CheckReport;
}

/**
 * Repairs a qcow2 image, as `qemu-img check -r` does: leaks, refcounts, flags, refcount structures
 * that are damaged or lost, snapshot tables, tables that lie where something else is. The guest keeps
 * every byte that it sees. Interrupted at any point, by `signal` or a power cut, it leaves an image
 * with the same view, and the same call again completes it. What no repair can know (data past the
 * end of the file, entries that make no sense) stays and is told in `after`.
 *
 * Nobody else may use the image meanwhile. Bytes in memory stay as they are, and a copy of them is
 * repaired: give a `MemoryStorage` to have that. Rejects with `unsupported` (a raw image, too large),
 * `format`, `corrupt` (not even its header, or its bitmaps, can be read; `leaks` where refcounts have
 * to be rebuilt), `no-space`, `not-found`, `busy`, `read-only`, `io` or `invalid` (an option, a
 * description).
 *
 * Source: the specification's "Host cluster management"; messages and counts are `qemu-img check`'s.
 */
export async function repairImage(
  source: ImageSource,
  options: RepairOptions = {},
): Promise<RepairReport> {
  const { fix = 'all', dryRun = false, maxFindings = 1000, signal, ...rest } = options;
  checkChoice('fix', fix, ['leaks', 'all']);
  checkCount('maxFindings', maxFindings, 1_000_000);
  const open = { ...rest, backing: false, describe: true, ...(signal && { signal }) };
  const chain = await openEngine(source, { ...open, writable: !dryRun }, 'repair');
  try {
    const image = chain.top;
    if (!(image instanceof Qcow2Image)) {
      throw new ImageError('unsupported', `${image.filename}: raw images can't be repaired`);
    }
    const below = dryRun ? new OverlayStorage(image.storage) : image.storage;
    const storage = stoppable(below, signal);
    const found = collectFindings(maxFindings);
    const { leaksFixed, corruptionsFixed } = await repairEngineImage(storage, fix, found.tell);
    const left = collectFindings(maxFindings);
    const counts = await checkEngineImage(await readState(storage), left.tell);
    const after = { ...counts, findings: left.findings };
    return { leaksFixed, corruptionsFixed, findings: found.findings, after };
  } finally {
    await chain.close();
  }
}
