// A machine whose power can fail: files in memory that note every write, copy, zeroed range, change of
// length and sync, and every state in which a power cut could leave them (power-cut.ts says which).
// Removing a file is durable at once.

import { posix } from 'node:path';
import type { OpenStorageOptions } from '../../src/io/host.ts';
import type { Permission } from '../../src/io/locks.ts';
import { MemoryHost, type MemoryHostOptions } from '../../src/io/memory-host.ts';
import type { CloneRange, Storage, StorageExtent, WriteKind } from '../../src/io/storage.ts';
import {
  type Atom,
  applied,
  atomsOf,
  type Change,
  countOf,
  type Random,
  randomFrom,
  selections,
} from './power-cut.ts';

export { type Random, randomFrom };

/** A change and whether its call has come back: a sync covers no others. */
interface Pending {
  readonly change: Change;
  ended: boolean;
}

type Event =
  | { readonly kind: 'change'; readonly file: string; readonly pending: Pending }
  | { readonly kind: 'sync'; readonly file: string; readonly covers: ReadonlySet<Pending> }
  | { readonly kind: 'create'; readonly file: string }
  | { readonly kind: 'remove'; readonly file: string };

/** Not synced yet. */
interface Waiting {
  readonly file: string;
  readonly pending: Pending;
  readonly atoms: readonly Atom[];
}

/** Name -> content. */
export type Files = ReadonlyMap<string, Uint8Array>;

/** What a power cut left. */
export interface CrashState {
  /** Events before it. */
  readonly at: number;
  readonly files: Files;
}

/** What a recording holds, by kind. */
export type Counts = Readonly<Record<Change['kind'] | 'sync' | 'remove', number>>;

export interface CrashHostOptions extends MemoryHostOptions {
  /** Files can share extents, now and then not. */
  readonly clones?: boolean;
}

export class CrashHost extends MemoryHost {
  readonly #before = new Map<string, Uint8Array>();
  readonly #events: Event[] = [];
  /** By file, as a sync covers what was written by whichever handle. */
  readonly #unsynced = new Map<string, Set<Pending>>();
  readonly #clones: boolean;

  /** Starts with files that are durable. */
  constructor(files: Files, options: CrashHostOptions = {}) {
    super(options);
    this.#clones = options.clones ?? false;
    for (const [name, bytes] of files) {
      this.addFile(name, bytes);
      this.#before.set(name, bytes);
      this.#unsynced.set(name, new Set());
    }
  }

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    return this.#recorded(filename, await super.openStorage(filename, options));
  }

  override async createStorage(filename: string): Promise<Storage> {
    const storage = await super.createStorage(filename);
    this.#events.push({ kind: 'create', file: filename });
    this.#unsynced.set(filename, new Set());
    return this.#recorded(filename, storage);
  }

  override async remove(filename: string): Promise<void> {
    await super.remove(filename);
    this.#events.push({ kind: 'remove', file: filename });
  }

  #recorded(name: string, storage: Storage): Storage {
    const filename = posix.normalize(name);
    const unsynced = this.#unsynced.get(filename);
    // By another name it would be another file to us.
    if (unsynced === undefined) throw new Error(`'${filename}' has no record`);
    const Recorded = this.#clones ? CloningStorage : RecordedStorage;
    return new Recorded(filename, storage, this.#events, unsynced);
  }

  /** Events so far: a power cut can come after each of them. */
  get length(): number {
    return this.#events.length;
  }

  get counts(): Counts {
    const counts = {
      write: 0,
      copy: 0,
      clone: 0,
      zero: 0,
      discard: 0,
      resize: 0,
      sync: 0,
      remove: 0,
    };
    for (const event of this.#events) {
      if (event.kind === 'change') counts[event.pending.change.kind]++;
      else if (event.kind !== 'create') counts[event.kind]++;
    }
    return counts;
  }

  /** How many states each moment made possible, whatever their order; perhaps endless. */
  possibilities(): readonly number[] {
    return [...this.#moments()].map(({ fresh, others }) => countOf(fresh.length, others.length));
  }

  /**
   * At most about `perEvent` states for each moment: all that are new there if there are no more than
   * that. What a change made possible comes right behind it; a sync alone makes nothing possible, but
   * the states that it leaves, least and most, come again.
   */
  *states(perEvent: number, random: Random): Generator<CrashState> {
    for (const { at, durable, fresh, others } of this.#moments()) {
      if (fresh.length > 0) {
        for (const kept of selections(fresh, others, perEvent, random)) {
          yield { at, files: withAtoms(durable, kept) };
        }
      } else {
        yield { at, files: new Map(durable) };
        if (others.length > 0 && perEvent > 1) yield { at, files: withAtoms(durable, others) };
      }
    }
  }

  /** Each moment: what is durable, what its event added to that, and what waits for a sync. */
  *#moments(): Generator<{
    readonly at: number;
    readonly durable: Files;
    readonly fresh: readonly Atom[];
    readonly others: readonly Atom[];
  }> {
    const durable = new Map(this.#before);
    let waiting: Waiting[] = [];
    for (const [i, event] of this.#events.entries()) {
      const { file } = event;
      const others = () => waiting.flatMap(({ atoms }) => atoms);
      if (event.kind === 'change') {
        const fresh = atomsOf(file, event.pending.change);
        yield { at: i + 1, durable, fresh, others: others() };
        waiting.push({ file, pending: event.pending, atoms: fresh });
        continue;
      }
      if (event.kind === 'create') durable.set(file, new Uint8Array());
      else if (event.kind === 'remove') {
        durable.delete(file);
        waiting = waiting.filter((each) => each.file !== file);
      } else {
        const { covers } = event;
        const covered = waiting.filter(({ pending }) => covers.has(pending));
        const changes = covered.map(({ pending }) => pending.change);
        durable.set(file, applied(durable.get(file) ?? new Uint8Array(), changes));
        waiting = waiting.filter(({ pending }) => !covers.has(pending));
      }
      yield { at: i + 1, durable, fresh: [], others: others() };
    }
  }
}

function withAtoms(durable: Files, atoms: readonly Atom[]): Files {
  const changes = new Map<string, Change[]>();
  for (const { file, change } of atoms) {
    const list = changes.get(file) ?? [];
    list.push(change);
    changes.set(file, list);
  }
  const files = new Map(durable);
  for (const [file, list] of changes) {
    files.set(file, applied(durable.get(file) ?? new Uint8Array(), list));
  }
  return files;
}

/** Passes everything on, and notes what changes the file. */
class RecordedStorage implements Storage {
  readonly filename: string;
  readonly #inner: Storage;
  readonly #events: Event[];
  readonly #unsynced: Set<Pending>;

  constructor(filename: string, inner: Storage, events: Event[], unsynced: Set<Pending>) {
    this.filename = filename;
    this.#inner = inner;
    this.#events = events;
    this.#unsynced = unsynced;
  }

  async #change(change: Change, work: () => Promise<void>): Promise<void> {
    const pending = { change, ended: false };
    this.#unsynced.add(pending);
    this.#events.push({ kind: 'change', file: this.filename, pending });
    await work();
    pending.ended = true;
  }

  get writable(): boolean {
    return this.#inner.writable;
  }
  get size(): number {
    return this.#inner.size;
  }
  get resizable(): boolean {
    return this.#inner.resizable;
  }
  get growsZeroed(): boolean {
    return this.#inner.growsZeroed;
  }
  read(offset: number, target: Uint8Array): Promise<void> {
    return this.#inner.read(offset, target);
  }
  write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    const change = { kind: 'write', offset, bytes: source.slice() } as const;
    return this.#change(change, () => this.#inner.write(offset, source, kind));
  }
  zero(offset: number, length: number, kind: WriteKind): Promise<void> {
    const change = { kind: 'zero', offset, length } as const;
    return this.#change(change, () => this.#inner.zero(offset, length, kind));
  }
  discard(offset: number, length: number): Promise<void> {
    // Within the file: a hint never makes it longer.
    const inside = Math.max(0, Math.min(length, this.size - offset));
    const change = { kind: 'discard', offset, length: inside } as const;
    return this.#change(change, () => this.#inner.discard(offset, length));
  }
  /** As the kernel does it: what lies within the source, there once it is synced like any write. */
  async copyFrom(source: Storage, from: number, to: number, length: number): Promise<number> {
    const inside = Math.max(0, Math.min(length, source.size - from));
    if (inside > 0) await this.take('copy', { source, from, to, length: inside });
    return inside;
  }
  protected async take(kind: 'copy' | 'clone', range: CloneRange): Promise<void> {
    const bytes = new Uint8Array(range.length);
    await range.source.read(range.from, bytes);
    const change = { kind, offset: range.to, bytes } as const;
    await this.#change(change, () => this.#inner.write(range.to, bytes, 'data'));
  }
  extentAt(offset: number): Promise<StorageExtent> {
    return this.#inner.extentAt(offset);
  }
  allocatedBytes(): Promise<number | undefined> {
    return this.#inner.allocatedBytes();
  }
  async flush(): Promise<void> {
    const covers = new Set([...this.#unsynced].filter(({ ended }) => ended));
    await this.#inner.flush();
    for (const each of covers) this.#unsynced.delete(each);
    this.#events.push({ kind: 'sync', file: this.filename, covers });
  }
  resize(size: number): Promise<void> {
    return this.#change({ kind: 'resize', size }, () => this.#inner.resize(size));
  }
  lock(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    return this.#inner.lock(use, share);
  }
  makeWritable(use: readonly Permission[], share: readonly Permission[]): Promise<void> {
    return this.#inner.makeWritable(use, share);
  }
  close(): Promise<void> {
    return this.#inner.close();
  }
}

/** Where so many ranges were shared, the next one is not. */
const CLONES = 11;

/** Its files share extents with others. */
class CloningStorage extends RecordedStorage {
  #cloned = 0;

  async canClone(): Promise<boolean> {
    return true;
  }
  async cloneFrom(ranges: readonly CloneRange[]): Promise<number> {
    for (const [done, range] of ranges.entries()) {
      const isInside = range.from + range.length <= range.source.size;
      if (!isInside || this.#cloned++ % (CLONES + 1) === CLONES) return done;
      await this.take('clone', range);
    }
    return ranges.length;
  }
}

/** A memory host with these files, for a look at a state. */
export function hostWith(files: Files, options: MemoryHostOptions = {}): MemoryHost {
  const host = new MemoryHost(options);
  for (const [name, bytes] of files) host.addFile(name, bytes);
  return host;
}

/** A copy of these files of a host; those that are not there are left out. */
export function filesIn(host: MemoryHost, names: Iterable<string>): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const name of names) {
    const bytes = host.fileBytes(name);
    if (bytes !== undefined) files.set(name, bytes);
  }
  return files;
}
