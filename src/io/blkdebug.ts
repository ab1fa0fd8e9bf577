// A storage that fails when its rules say so: the error injection that QEMU calls blkdebug.
//
// An event (the image says what it is about to do) activates the rules that wait for it; from then
// on requests that an active rule covers fail, until other rules become active, or at once no more
// where a rule is for one time only. A state, 1 at first, lets rules wait for each other.

import { ImageError, strerror } from '../errors.ts';
import type { StorageEvent } from './events.ts';
import { FilterStorage } from './filter.ts';
import type { Storage, StorageExtent, WriteKind } from './storage.ts';

export const REQUEST_KINDS = [
  'read',
  'write',
  'write-zeroes',
  'discard',
  'flush',
  'block-status',
] as const;
export type RequestKind = (typeof REQUEST_KINDS)[number];

export interface InjectError {
  readonly kind: 'inject-error';
  readonly event: StorageEvent;
  /** Only in this state; 0: in any. */
  readonly state: number;
  /** Symbolic, e.g. `ENOSPC`; null: nothing fails. */
  readonly errno: string | null;
  /** Only requests of this kind; null: all but block-status. */
  readonly requests: RequestKind | null;
  /** Only requests that cover this byte; null: all. */
  readonly offset: number | null;
  readonly once: boolean;
}

export interface SetState {
  readonly kind: 'set-state';
  readonly event: StorageEvent;
  readonly state: number;
  readonly newState: number;
}

export type DebugRule = InjectError | SetState;

/** The rules and what has happened so far. Pure: no storage, no time. */
export class DebugState {
  #rules: readonly DebugRule[];
  /** The latest first. */
  #active: readonly InjectError[] = [];
  #state = 1;

  constructor(rules: readonly DebugRule[]) {
    this.#rules = rules;
    this.event('none');
  }

  event(name: StorageEvent): void {
    let newState = this.#state;
    let injected: readonly InjectError[] = [];
    for (const rule of this.#rules) {
      if (rule.event !== name) continue;
      if (rule.state !== 0 && rule.state !== this.#state) continue;
      if (rule.kind === 'set-state') newState = rule.newState;
      else injected = [rule, ...injected];
    }
    if (injected.length > 0) this.#active = injected;
    this.#state = newState;
  }

  /** The errno that a request has to fail with; undefined if it may pass. */
  check(kind: RequestKind, offset: number, length: number): string | undefined {
    const rule = this.#active.find(
      ({ requests, offset: at }) =>
        (requests === null ? kind !== 'block-status' : requests === kind) &&
        (at === null || (at >= offset && at < offset + length)),
    );
    if (rule?.once) {
      this.#active = this.#active.filter((each) => each !== rule);
      this.#rules = this.#rules.filter((each) => each !== rule);
    }
    return rule?.errno ?? undefined;
  }
}

const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

export class BlkdebugStorage extends FilterStorage {
  readonly #state: DebugState;
  override event = (name: StorageEvent): void => this.#state.event(name);

  constructor(inner: Storage, rules: readonly DebugRule[]) {
    super(inner);
    this.#state = new DebugState(rules);
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.#check('read', offset, target.length);
    await this.inner.read(offset, target);
  }

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    this.#state.event('pwritev');
    this.#check('write', offset, source.length);
    await this.inner.write(offset, source, kind);
    this.#state.event('pwritev_done');
  }

  override async zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    this.#state.event('pwritev_zero');
    this.#check('write-zeroes', offset, length);
    await this.inner.zero(offset, length, kind);
    this.#state.event('pwritev_done');
  }

  override async discard(offset: number, length: number): Promise<void> {
    this.#check('discard', offset, length);
    await this.inner.discard(offset, length);
  }

  /** Never within the machine: each part has to pass the rules. */
  override async copyFrom(): Promise<number> {
    return 0;
  }

  override async extentAt(offset: number): Promise<StorageExtent> {
    this.#check('block-status', offset, 1);
    return await this.inner.extentAt(offset);
  }

  /** Not told, as QEMU does not. */
  override async allocatedBytes(): Promise<undefined> {
    return undefined;
  }

  override async flush(): Promise<void> {
    this.#check('flush', 0, 0);
    await this.inner.flush();
  }

  #check(kind: RequestKind, offset: number, length: number): void {
    const errno = this.#state.check(kind, offset, length);
    if (errno === undefined) return;
    const code = NO_SPACE.has(errno) ? 'no-space' : 'io';
    throw new ImageError(
      code,
      `'${this.filename}': ${kind} at offset ${offset}: ${strerror(errno)} (injected)`,
      { errno },
    );
  }
}
