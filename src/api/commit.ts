// Commit for programs: as a promise, as a stream of events, or planned only.

import { commit as commitInEngine } from '../commit/commit.ts';
import { ImageError } from '../errors.ts';
import type { CacheMode, Host } from '../io/host.ts';
import { RateLimit as EngineRateLimit } from '../io/throttle.ts';
import type { Cancellable, LayerFormat } from './chain.ts';
import { checkCache } from './checks.ts';
import type { ImageDescription } from './description.ts';
import { secretsFor } from './engine-secrets.ts';
import { asJson } from './located.ts';
import { nodeHost } from './node-host.ts';
import type { Secrets } from './secrets.ts';
import { forPrograms, inOptionNames } from './words.ts';

/** What {@link commit} merges into what, and what becomes of the rest. */
export interface CommitOptions extends Cancellable {
  /** Format of the image that is named. Default: probed. */
  readonly format?: 'qcow2' | 'raw';
  /** Passphrases of encrypted layers. Default: none, so that those are refused with `invalid`. */
  readonly secrets?: Secrets;
  /** Durability of writes. Default `writeback`; the order of steps is kept in all but `unsafe`. */
  readonly cache?: CacheMode;
  /** The layer that receives the data. Default: the backing file of the top. */
  readonly base?: string;
  /**
   * The uppermost layer that is merged, where that is not the named image itself. The layer above
   * it is made to stand on base then.
   */
  readonly top?: string;
  /** With `top`: further images that stand on it, to be relinked too. Default: none. */
  readonly overlays?: readonly string[];
  /** With `base` and without `top`: makes the named image stand on base. Default false. */
  readonly relink?: boolean;
  /** With `top` or `relink`: removes the files that nobody needs any more. Default false. */
  readonly delete?: boolean;
  /** Does not empty the named image afterwards. Implied by `base`. Default false. */
  readonly drop?: boolean;
  /**
   * Stores clusters compressed in base, by its compression type, where that makes them smaller.
   * Rejected with `unsupported` where base is no qcow2 image, is encrypted, or keeps its data in an
   * external data file; for zstd without Node.js 22.15. Default false.
   */
  readonly compress?: boolean;
  /**
   * Lets the merged layers go of each part as soon as base holds it durably (its room is given back
   * to the file system), so that a commit takes little more space at a time than it frees. The view
   * through the named image holds all the while; a commit that was stopped goes on where it was, with
   * or without this. With `base` the named image lets go of its data too. Goes without `drop`. Default
   * false.
   */
  readonly reclaim?: boolean;
  /**
   * Brings persistent bitmaps that record, of the merged layers, down into base: what they call
   * dirty becomes dirty in base's bitmap of that name, which is made where there is none. Default
   * false.
   */
  readonly bitmaps?: boolean;
  /** Commits although other images would see other data, or space may not do. Default false. */
  readonly force?: boolean;
  /**
   * Copies into other images, first and durably, what they would lose, instead of refusing because
   * of them. Those that are in use are refused with `busy`, those with internal snapshots with
   * `unsupported`. Default false.
   */
  readonly rebaseSiblings?: boolean;
  /** Further directories to look for images that stand on base in. Default: none. */
  readonly search?: readonly string[];
  /**
   * Compares first, and writes nothing that base shows already: another run after one that was
   * stopped, or a top that rewrote the same bytes, hardly writes. Bytes that are compared and left
   * out count as copied for `rateLimit` and `onProgress`. Default false.
   */
  readonly skipIdentical?: boolean;
  /** Bytes of data copied per second, 0 or more; 0: no limit, the default. */
  readonly rateLimit?: number | RateLimit;
  /** Told once all checks have passed, before the first write. */
  readonly onPlan?: (plan: CommitPlan) => void;
  /** Told at the start and after each piece of at most 64 MiB. */
  readonly onProgress?: (progress: CommitProgress) => void;
  /** Where files are. Default `nodeHost`, this machine. */
  readonly host?: Host;
}

/** What a commit does. Files are named as resolved; sizes are bytes. */
export interface CommitPlan {
  /** The uppermost layer that is merged. */
  readonly top: string;
  /** The layer that receives the data. */
  readonly base: string;
  /** Its format. */
  readonly baseFormat: LayerFormat;
  /** Layers from top to above base whose data moves down. */
  readonly merged: readonly string[];
  /** Stretches that are copied or zeroed. */
  readonly ranges: number;
  /** Data that is copied. */
  readonly copyBytes: number;
  /** Ranges that are made to read as zeros. */
  readonly zeroBytes: number;
  /**
   * How much of these base shows already, in bytes: not written with `skipIdentical`. Null without
   * it, and in the plan that `onPlan` gets.
   */
  readonly identicalBytes: number | null;
  /** By which base's file grows at most. */
  readonly growthBytes: number;
  /** The most of that at a time; less where `reclaim` frees space in the same file system. */
  readonly peakBytes: number;
  /** Size of base's disk before. */
  readonly baseSize: number;
  /** Size of base's disk afterwards: the larger of base and top. */
  readonly newBaseSize: number;
  /** Base was not closed properly: its refcounts get rebuilt first. */
  readonly rebuildsRefcounts: boolean;
  /** Layers that let go of each part as soon as base holds it. */
  readonly reclaims: readonly string[];
  /** The image that is emptied; null if none is. */
  readonly empties: string | null;
  /** Images that get another backing file, and its name as they store it. */
  readonly relinks: readonly { readonly overlay: string; readonly backingFile: string }[];
  /** Layers whose own view means nothing afterwards. */
  readonly invalidates: readonly string[];
  /** Files that are removed. */
  readonly deletes: readonly string[];
  /** Other images whose view changes. Empty unless forced or only planned. */
  readonly siblings: readonly string[];
  /** Images that get, first, what they would lose: data copied, zeroed, growth of the file at most. */
  readonly siblingCopies: readonly {
    readonly filename: string;
    readonly copyBytes: number;
    readonly zeroBytes: number;
    readonly growthBytes: number;
  }[];
  /** Files and directories that could not be read: those, too, may depend on base. */
  readonly unread: readonly string[];
  /** Bitmaps of base that get the dirty bits of their namesakes in the files `from`. */
  readonly bitmaps: readonly {
    readonly name: string;
    readonly from: readonly string[];
    /** Base has none of that name yet. */
    readonly creates: boolean;
  }[];
  /** Bitmaps that are kept as they are, where that may surprise: a sentence for each. */
  readonly bitmapsLeft: readonly string[];
  /** Why it would be refused. Only of a plan by {@link planCommit}. */
  readonly refusals: readonly string[];
}

/** How far a commit is. What no layer above base allocates does not count. */
export interface CommitProgress {
  /** Bytes copied or zeroed so far. */
  readonly done: number;
  /** Bytes that the whole plan copies or zeroes. */
  readonly total: number;
  /** Average bytes per second since the start. */
  readonly rate: number;
  /** Seconds left at that rate; undefined before anything was done. */
  readonly secondsLeft: number | undefined;
}

/** What {@link commitEvents} tells, in this order; `progress` any number of times. */
export type CommitEvent =
  | { readonly kind: 'plan'; readonly plan: CommitPlan }
  | ({ readonly kind: 'progress' } & CommitProgress)
  | { readonly kind: 'done'; readonly plan: CommitPlan };

/** A limit that can be changed while commits hold it; those that share it share the rate. */
export interface RateLimit {
  /** Bytes per second; 0: no limit. */
  readonly rate: number;
  /** Takes effect at once, also for who waits. */
  setRate(bytesPerSecond: number): void;
}

/**
 * A {@link RateLimit} of `bytesPerSecond`, 0 or more; 0: none. `clock`: default this machine's. Throws
 * `invalid` for anything else, as does `setRate`.
 */
export function rateLimit(
  bytesPerSecond: number,
  clock: Pick<Host, 'now' | 'sleep'> = nodeHost,
): RateLimit {
  return new EngineRateLimit(bytesPerSecond, clock);
}

/**
 * Merges layers of the chain of `image`, a file name or a description, down into a base, as
 * {@link CommitOptions} say. Resolves to what was done.
 *
 * The guest's view through the named image never changes, whatever stops this, whenever. Rejects,
 * everything as it was, with `siblings`, `no-space`, `busy`, `corrupt`, `unsupported`, `not-found`
 * or `invalid` where something speaks against it; with a message that starts with `Block job
 * failed` (`no-space`, `io`) where it was stopped half-way; with the signal's reason where it was
 * cancelled, at a safe point. In the last two cases another run of the same call completes it.
 */
export async function commit(
  image: string | ImageDescription,
  options: CommitOptions = {},
): Promise<CommitPlan> {
  return await run(image, options, false);
}

/**
 * What {@link commit} would do, and what speaks against it (`refusals`, none: nothing). Writes
 * nothing. Rejects where the chain can't be opened or the options make no sense.
 */
export async function planCommit(
  image: string | ImageDescription,
  options: CommitOptions = {},
): Promise<CommitPlan> {
  return await run(image, options, true);
}

async function run(
  image: string | ImageDescription,
  options: CommitOptions,
  dryRun: boolean,
): Promise<CommitPlan> {
  checkCache(options.cache);
  const target = typeof image === 'string' ? image : asJson(image);
  try {
    const { plan } = await commitInEngine(target, { ...inEngine(options), dryRun });
    return { ...plan, refusals: plan.refusals.map(inOptionNames) };
  } catch (error) {
    throw forPrograms(error);
  }
}

function inEngine({ rateLimit: limit, secrets, ...options }: CommitOptions) {
  if (typeof limit === 'object' && !(limit instanceof EngineRateLimit)) {
    throw new ImageError('invalid', 'rateLimit is neither a number nor made by rateLimit()');
  }
  const keys = secretsFor(secrets);
  return { host: nodeHost, ...options, ...keys, ...(limit !== undefined && { rateLimit: limit }) };
}

/**
 * {@link commit} as events; it starts when the first one is asked for. Whoever is slow misses
 * progress, but nothing else. Leaving the loop cancels the commit, and waits for its safe point.
 * Rejects as `commit`.
 */
export async function* commitEvents(
  image: string | ImageDescription,
  options: CommitOptions = {},
): AsyncGenerator<CommitEvent, void, undefined> {
  const left = new AbortController();
  const { signal = left.signal } = options;
  const inbox = new Inbox();
  const job = commit(image, {
    ...options,
    signal: AbortSignal.any([signal, left.signal]),
    onPlan(plan) {
      options.onPlan?.(plan);
      inbox.put({ kind: 'plan', plan });
    },
    onProgress(progress) {
      options.onProgress?.(progress);
      inbox.put({ kind: 'progress', ...progress });
    },
  });
  const ended = job.then(
    () => inbox.end(),
    () => inbox.end(),
  );
  try {
    yield* inbox.events();
    yield { kind: 'done', plan: await job };
  } finally {
    left.abort();
    await ended;
    await job.catch((error: unknown) => {
      if (error !== left.signal.reason) throw error;
    });
  }
}

/** Events until they are fetched: of progress, the latest alone. */
class Inbox {
  #waiting: CommitEvent[] = [];
  #ended = false;
  #wake = pending();

  put(event: CommitEvent): void {
    if (this.#waiting.at(-1)?.kind === event.kind) this.#waiting.pop();
    this.#waiting.push(event);
    this.#wake.resolve();
  }

  end(): void {
    this.#ended = true;
    this.#wake.resolve();
  }

  async *events(): AsyncGenerator<CommitEvent> {
    for (;;) {
      yield* this.#waiting.splice(0);
      if (this.#waiting.length > 0) continue;
      if (this.#ended) return;
      this.#wake = pending();
      await this.#wake.promise;
    }
  }
}

function pending(): { readonly promise: Promise<void>; resolve(): void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
