// Rebase for programs.

import { rebase as rebaseInEngine } from '../commit/rebase.ts';
import { ImageError } from '../errors.ts';
import type { CacheMode, Host } from '../io/host.ts';
import type { Cancellable } from './chain.ts';
import { checkCache, checkCount } from './checks.ts';
import type { CommitProgress } from './commit.ts';
import type { ImageDescription } from './description.ts';
import { secretsFor } from './engine-secrets.ts';
import { asJson } from './located.ts';
import { nodeHost } from './node-host.ts';
import type { Secrets } from './secrets.ts';
import { forPrograms, inOptionNames } from './words.ts';

/** What {@link rebase} makes an image stand on. */
export interface RebaseOptions extends Cancellable {
  /**
   * Name of the new backing file, stored as it is: relative names are seen from the directory of the
   * image. At most 1,023 bytes. `null`: none any more.
   */
  readonly backingFile: string | null;
  /** Its format. What has a backing file has to store it. Default: none, for `backingFile: null`. */
  readonly backingFormat?: 'qcow2' | 'raw';
  /**
   * Changes the name alone, for a backing file that was moved or renamed: neither the old nor the new
   * one is read, and the guest may see something else afterwards. Default false.
   */
  readonly unsafe?: boolean;
  /** Format of the image that is named. Default: probed. */
  readonly format?: 'qcow2' | 'raw';
  /** Passphrases of encrypted layers. Default: none, so that those are refused with `invalid`. */
  readonly secrets?: Secrets;
  /** Durability of writes. Default `writeback`; the order of steps is kept in all but `unsafe`. */
  readonly cache?: CacheMode;
  /** The same for reading the new backing file and those below it. Default `writeback`. */
  readonly sourceCache?: CacheMode;
  /** Opens the new backing file although another process writes to it. Default false. */
  readonly forceShare?: boolean;
  /**
   * Bytes of zeros in a row, at least, that become zero clusters instead of data; 0: none do.
   * A multiple of 512, below 2^31. Default: one cluster or subcluster.
   */
  readonly sparseSize?: number;
  /**
   * Goes on although space may not do, the image has internal snapshots (which show the new backing
   * file then), or the name leads nowhere or elsewhere. Default false.
   */
  readonly force?: boolean;
  /** Told at the start and after each range of at most 64 MiB; bytes of the image's disk. */
  readonly onProgress?: (progress: CommitProgress) => void;
  /** Where files are. Default `nodeHost`, this machine. */
  readonly host?: Host;
}

/** What {@link rebase} did, or, of {@link planRebase}, would do. */
export interface RebaseReport {
  /** The image, as resolved. */
  readonly image: string;
  /** Name of the old backing file, as it was stored; null: it had none. */
  readonly oldBackingFile: string | null;
  /** Name of the new one, as it is stored; null: none. */
  readonly backingFile: string | null;
  /** Bytes of the disk of which nothing but reading told whether both show the same. */
  readonly comparedBytes: number;
  /** Bytes copied into the image, in whole clusters or subclusters. */
  readonly copiedBytes: number;
  /** The same of what it was made to hold as zeros. */
  readonly zeroedBytes: number;
  /** Why it would be refused. Only of {@link planRebase}. */
  readonly refusals: readonly string[];
}

/**
 * Makes `image`, a file name or a description, stand on another backing file, or on none. What it
 * would show otherwise afterwards is copied into it first, durably; what both backing files have from
 * one layer, or as zeros, is not read. Shorter backing files read as zeros past their end.
 *
 * The guest's view through the image never changes, whatever stops this, whenever, unless
 * {@link RebaseOptions.unsafe} is set. Rejects, everything as it was, with `no-space`, `busy`,
 * `corrupt`, `unsupported`, `not-found`, `format` or `invalid` (also a backing file that stands on
 * the image itself) where something speaks against it; with `io` or `no-space` where it was stopped
 * half-way; with the signal's reason where it was cancelled, at a safe point. In the last two cases
 * the image stands on its old backing file, and another run of the same call completes it.
 *
 * Source: the specification's "Header" (backing_file_offset, backing_file_size) and "Header
 * extensions" (backing file format name).
 */
export async function rebase(
  image: string | ImageDescription,
  options: RebaseOptions,
): Promise<RebaseReport> {
  return await run(image, options, false);
}

/**
 * What {@link rebase} would do, and what speaks against it (`refusals`, none: nothing). Writes
 * nothing, but reads all that has to be compared. Rejects where an image can't be opened or the
 * options make no sense.
 */
export async function planRebase(
  image: string | ImageDescription,
  options: RebaseOptions,
): Promise<RebaseReport> {
  return await run(image, options, true);
}

async function run(
  image: string | ImageDescription,
  options: RebaseOptions,
  dryRun: boolean,
): Promise<RebaseReport> {
  const { backingFile, secrets, ...rest } = options;
  checkCache(rest.cache);
  checkCache(rest.sourceCache);
  if (rest.sparseSize !== undefined) checkSparseSize(rest.sparseSize);
  if (backingFile === '') {
    throw new ImageError('invalid', "backingFile is a name, or null for no backing file: not ''");
  }
  const target = typeof image === 'string' ? image : asJson(image);
  const backing = backingFile ?? '';
  const keys = secretsFor(secrets);
  try {
    const done = await rebaseInEngine(target, {
      host: nodeHost,
      ...rest,
      ...keys,
      backing,
      dryRun,
    });
    return {
      image: done.overlay,
      oldBackingFile: done.oldBackingFile,
      backingFile: done.backingFile,
      comparedBytes: done.comparedBytes,
      copiedBytes: done.copiedBytes,
      zeroedBytes: done.zeroedBytes,
      refusals: done.refusals.map(inOptionNames),
    };
  } catch (error) {
    throw forPrograms(error);
  }
}

function checkSparseSize(size: number): void {
  checkCount('sparseSize', size, 2 ** 31 - 512);
  if (size % 512 === 0) return;
  throw new ImageError('invalid', `sparseSize is a multiple of 512, not ${size}`);
}
