// What a caller of rebase can ask for, and what it is told.

import type { ChainLayer } from '../chain/chain.ts';
import type { OnWarning } from '../chain/open.ts';
import type { Secrets } from '../chain/secrets.ts';
import type { CacheMode, Host } from '../io/host.ts';
import type { CommitProgress } from './progress.ts';

export interface RebaseOptions {
  /** The new backing file, as the image is to store it; empty or undefined: none any more. */
  readonly backing: string | undefined;
  /** Its format. What has a backing file has to store it. */
  readonly backingFormat?: string;
  /** Changes the header alone: the guest may see something else afterwards. */
  readonly unsafe?: boolean;
  /** Format of the image that is named; probed without it. */
  readonly format?: string;
  readonly cache?: CacheMode;
  /** Of the new backing file and those below it. */
  readonly sourceCache?: CacheMode;
  /** Opens the new backing file although another process writes to it. */
  readonly forceShare?: boolean;
  /** Passphrases of encrypted layers, by the names that descriptions give them. */
  readonly secrets?: Secrets;
  /** What messages call the image. Default: its name. */
  readonly label?: string;
  /**
   * Bytes of zeros in a row, at least, that become zero clusters instead of data; 0: none do.
   * Default: one cluster or subcluster.
   */
  readonly sparseSize?: number;
  /** Goes on in spite of what may be meant so. */
  readonly force?: boolean;
  /** Gives no advice at all, as QEMU does not: neither space nor names are looked at. */
  readonly skipAdvice?: boolean;
  /** Finds out what would be copied; nothing is written. */
  readonly dryRun?: boolean;
  /** Stops at a safe point; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: CommitProgress) => void;
  /** Told of as many steps as QEMU takes for the same. */
  readonly onSteps?: (count: number, diskSize: number) => void;
  /** Told of the image once it is open. */
  readonly onOpened?: (image: ChainLayer) => void;
  /** Told once all checks have passed, before the first write. */
  readonly onStart?: () => void;
  readonly onWarning?: OnWarning;
  readonly host: Host;
}

/** What a rebase did, or would do. */
export interface RebaseResult {
  /** The image, as resolved. */
  readonly overlay: string;
  /** Names as stored in its header; null for none. */
  readonly oldBackingFile: string | null;
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  readonly unsafe: boolean;
  /** Bytes that were read of either side, because nothing else tells whether they differ. */
  readonly comparedBytes: number;
  /** Bytes brought into the image as data, in its units of allocation. */
  readonly copiedBytes: number;
  /** The same of what it was made to hold as zeros. */
  readonly zeroedBytes: number;
  /** Why it would be refused; only ever not empty for `dryRun`. */
  readonly refusals: readonly string[];
  readonly dryRun: boolean;
}
