// What a caller of commit can ask for, what it is told, and which combinations make sense.

import type { OnWarning } from '../chain/open.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError } from '../errors.ts';
import type { CacheMode, Host } from '../io/host.ts';
import type { RateLimit } from '../io/throttle.ts';
import type { LayerFormat } from '../layer.ts';
import type { BitmapMerge } from './bitmaps.ts';
import type { CommitProgress } from './progress.ts';

export interface CommitOptions {
  /** Format of the image that is named; probed without it. */
  readonly format?: string;
  readonly cache?: CacheMode;
  /** Passphrases of encrypted layers, by the names that descriptions give them. */
  readonly secrets?: Secrets;
  /** What messages call the image. Default: its name. */
  readonly label?: string;
  /** The layer that receives the data; default: the backing file of the top. */
  readonly base?: string;
  /**
   * The uppermost layer that is merged, where that is not the named image itself. Its overlay is
   * relinked to base then.
   */
  readonly top?: string;
  /** With `top`: further images whose backing file it is, to be relinked too. */
  readonly overlays?: readonly string[];
  /** With `base` and without `top`: makes the named image name base as its backing file. */
  readonly relink?: boolean;
  /** With `top` or `relink`: removes the files that nobody needs any more, last of all. */
  readonly delete?: boolean;
  /** Leaves the top as it is (it is not emptied). Implied by `base`. */
  readonly drop?: boolean;
  /**
   * Lets the merged layers go of each part as soon as base holds it durably, so that a commit takes
   * little more space at a time than it frees.
   */
  readonly reclaim?: boolean;
  /** With `reclaim`: bytes of data copied between two such moments. Default: by the free space. */
  readonly reclaimWindow?: number;
  /** Brings persistent bitmaps of the merged layers down into base. */
  readonly bitmaps?: boolean;
  /** Commits in spite of siblings and too little space. */
  readonly force?: boolean;
  /**
   * Copies into siblings, first, what they would lose, instead of refusing because of them: each one
   * goes on showing what it shows.
   */
  readonly rebaseSiblings?: boolean;
  /** Does not look for siblings or at the space at all, as QEMU does not. */
  readonly skipAdvice?: boolean;
  /** Further directories to look for siblings in. */
  readonly search?: readonly string[];
  /**
   * Stores clusters compressed in base, by its compression type, where that makes them smaller.
   * Base must be a qcow2 image without encryption or external data file. Default false.
   */
  readonly compress?: boolean;
  /**
   * Compares first, and writes nothing that base shows already. Default false.
   */
  readonly skipIdentical?: boolean;
  /** Bytes of data copied per second; 0 or nothing: no limit. A RateLimit can be changed later. */
  readonly rateLimit?: number | RateLimit;
  /** Plans only; nothing is written. */
  readonly dryRun?: boolean;
  /** Stops at a safe point; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: CommitProgress) => void;
  /** Told once all checks have passed, before the first write. */
  readonly onPlan?: (plan: CommitPlan) => void;
  /** Told of what images have lost, and what to do about it. */
  readonly onWarning?: OnWarning;
  readonly host: Host;
}

/** What a commit is going to do. Files are named as resolved. */
export interface CommitPlan {
  readonly top: string;
  readonly base: string;
  readonly baseFormat: LayerFormat;
  /** Layers from top to above base whose data moves down. */
  readonly merged: readonly string[];
  readonly ranges: number;
  readonly copyBytes: number;
  readonly zeroBytes: number;
  /** Bytes of these that base shows already; null where nobody has looked (yet). */
  readonly identicalBytes: number | null;
  /** Bytes that base's file needs at most in addition. */
  readonly growthBytes: number;
  /** The most of that at a time, where the layers above free space for it meanwhile. */
  readonly peakBytes: number;
  /** Size of base's disk before and after, in bytes. */
  readonly baseSize: number;
  readonly newBaseSize: number;
  /** Base was not closed properly: its refcounts get rebuilt first. */
  readonly rebuildsRefcounts: boolean;
  /** Layers that let go of each part as soon as base holds it. */
  readonly reclaims: readonly string[];
  readonly empties: string | null;
  readonly relinks: readonly { readonly overlay: string; readonly backingFile: string }[];
  /** Layers whose own view is no longer meaningful afterwards. */
  readonly invalidates: readonly string[];
  readonly deletes: readonly string[];
  /** Other images whose view changes. Empty unless `force` or `dryRun`. */
  readonly siblings: readonly string[];
  /** Images that get, first, what they would lose: their view stays. Bytes, as of base. */
  readonly siblingCopies: readonly {
    readonly filename: string;
    readonly copyBytes: number;
    readonly zeroBytes: number;
    readonly growthBytes: number;
  }[];
  /** Files and directories that could not be read: they may depend on base as well. */
  readonly unread: readonly string[];
  /** Bitmaps of base that get the dirty bits of those above. */
  readonly bitmaps: readonly BitmapMerge[];
  /** Bitmaps that are kept as they are, where that may surprise, in words. */
  readonly bitmapsLeft: readonly string[];
  /** Why it would be refused; only ever not empty for `dryRun`. */
  readonly refusals: readonly string[];
}

export interface CommitResult {
  readonly plan: CommitPlan;
  readonly dryRun: boolean;
}

export function checkOptions(options: CommitOptions): void {
  const refuse = (message: string) => {
    throw new ImageError('invalid', message);
  };
  const { top, base, relink, overlays = [] } = options;
  if (relink && top !== undefined) refuse('--relink goes without --top: --top relinks by itself');
  if (relink && base === undefined) refuse('--relink needs a base (-b)');
  if (options.reclaim && options.drop) {
    refuse('--reclaim goes without --drop (-d): it takes from the top what that leaves there');
  }
  if (overlays.length > 0 && top === undefined) refuse('--overlay needs --top');
  if (options.delete && top === undefined && !relink) {
    refuse('--delete needs --top or --relink: without, the files are still needed');
  }
}
