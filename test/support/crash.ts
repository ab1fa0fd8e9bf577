// A machine whose power can fail: files in memory that note every change, and every state in which a
// power cut could leave them.
//
// The model of a fault. What was flushed is there. Of what was written to a file since, any part may
// be there, in any order, and each write torn at 512 bytes; a change of length may have come first or
// last or not at all. Files know nothing of each other's order. Removing a file is durable at once.

import type { OpenStorageOptions } from '../../src/io/host.ts';
import type { Permission } from '../../src/io/locks.ts';
import { MemoryFile } from '../../src/io/memory.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage, StorageExtent, WriteKind } from '../../src/io/storage.ts';

const SECTOR = 512;

type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number }
  | { readonly kind: 'resize'; readonly size: number };

/** A change and whether its call has come back: a flush covers no others. */
interface Pending {
  readonly change: Change;
  ended: boolean;
}

type Event =
  | { readonly kind: 'change'; readonly file: string; readonly pending: Pending }
  | { readonly kind: 'flush'; readonly file: string; readonly covers: readonly Pending[] }
  | { readonly kind: 'create' | 'remove'; readonly file: string };

/** Name -> content. */
export type Files = ReadonlyMap<string, Uint8Array>;

/** 0 up to, but not including, `limit`. */
export type Random = (limit: number) => number;

/** Reproducible numbers (mulberry32). */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

export class CrashHost extends MemoryHost {
  readonly #before = new Map<string, Uint8Array>();
  readonly #events: Event[] = [];

  /** Starts with files that are durable. */
  constructor(files: Files, options: ConstructorParameters<typeof MemoryHost>[0] = {}) {
    super(options);
    for (const [name, bytes] of files) {
      this.addFile(name, bytes);
      this.#before.set(name, bytes);
    }
  }

  override async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    return new RecordedStorage(await super.openStorage(filename, options), this.#events);
  }

  override async createStorage(filename: string): Promise<Storage> {
    this.#events.push({ kind: 'create', file: filename });
    return new RecordedStorage(await super.createStorage(filename), this.#events);
  }

  override async remove(filename: string): Promise<void> {
    await super.remove(filename);
    this.#events.push({ kind: 'remove', file: filename });
  }

  /** Events so far: a power cut can come after each of them. */
  get length(): number {
    return this.#events.length;
  }

  /**
   * `samples` states for each moment (of which nothing, and all, that is pending are the first
   * two), with the number of events before it.
   */
  *states(samples: number, random: Random): Generator<{ readonly at: number; files: Files }> {
    const disk = new Map([...this.#before].map(([name, bytes]) => [name, new DiskFile(bytes)]));
    for (const [i, event] of this.#events.entries()) {
      const file = disk.get(event.file) ?? new DiskFile(new Uint8Array());
      if (event.kind === 'remove') disk.delete(event.file);
      else disk.set(event.file, file);
      if (event.kind === 'change') file.pending.push(event.pending);
      if (event.kind === 'flush') file.settle(new Set(event.covers));
      for (let sample = 0; sample < samples; sample++) {
        const files = new Map<string, Uint8Array>();
        for (const [name, each] of disk) files.set(name, each.afterPowerCut(sample, random));
        yield { at: i + 1, files };
      }
    }
  }
}

class DiskFile {
  #durable: Uint8Array;
  pending: Pending[] = [];

  constructor(bytes: Uint8Array) {
    this.#durable = bytes;
  }

  settle(covered: ReadonlySet<Pending>): void {
    const changes = this.pending.filter((each) => covered.has(each)).map(({ change }) => change);
    this.#durable = applied(this.#durable, changes);
    this.pending = this.pending.filter((each) => !covered.has(each));
  }

  afterPowerCut(sample: number, random: Random): Uint8Array {
    const changes = this.pending.map(({ change }) => change);
    if (sample === 0) return this.#durable;
    if (sample === 1) return applied(this.#durable, changes);
    const kept = changes.filter(() => random(3) > 0).flatMap((change) => torn(change, random));
    return applied(this.#durable, shuffled(kept, random));
  }
}

function torn(change: Change, random: Random): readonly Change[] {
  const end =
    change.kind === 'write'
      ? change.offset + change.bytes.length
      : change.kind === 'zero'
        ? change.offset + change.length
        : 0;
  if (change.kind === 'resize' || random(2) === 0) return [change];
  const parts: Change[] = [];
  for (let at = change.offset; at < end; ) {
    const stop = Math.min(end, at - (at % SECTOR) + SECTOR);
    if (random(2) === 0) parts.push(partOf(change, at, stop));
    at = stop;
  }
  return parts;
}

function partOf(change: Exclude<Change, { kind: 'resize' }>, from: number, to: number): Change {
  if (change.kind === 'zero') return { kind: 'zero', offset: from, length: to - from };
  const bytes = change.bytes.subarray(from - change.offset, to - change.offset);
  return { kind: 'write', offset: from, bytes };
}

/** Changes that overlap keep their order: the kernel gives no page two pasts. */
function shuffled(changes: readonly Change[], random: Random): readonly Change[] {
  const list = [...changes];
  for (let i = list.length - 1; i > 0; i--) {
    const j = random(i + 1);
    const [a, b] = [list[i], list[j]];
    if (a === undefined || b === undefined) continue;
    const between = list.slice(j, i + 1);
    if (between.some((c, n) => between.some((d, m) => n !== m && overlap(c, d)))) continue;
    list[i] = b;
    list[j] = a;
  }
  return list;
}

function overlap(a: Change, b: Change): boolean {
  if (a.kind === 'resize' || b.kind === 'resize') return a.kind === b.kind;
  const end = (c: typeof a) => c.offset + (c.kind === 'write' ? c.bytes.length : c.length);
  return a.offset < end(b) && b.offset < end(a);
}

function applied(start: Uint8Array, changes: readonly Change[]): Uint8Array {
  const file = new MemoryFile(start);
  for (const change of changes) {
    if (change.kind === 'resize') file.resize(change.size);
    else {
      const length = change.kind === 'write' ? change.bytes.length : change.length;
      file.growTo(change.offset + length);
      const target = file.view(change.offset, change.offset + length);
      if (change.kind === 'write') target.set(change.bytes);
      else target.fill(0);
    }
  }
  return file.view(0, file.size).slice();
}

/** Passes everything on, and notes what changes the file. */
class RecordedStorage implements Storage {
  readonly #inner: Storage;
  readonly #events: Event[];
  readonly #unflushed = new Set<Pending>();

  constructor(inner: Storage, events: Event[]) {
    this.#inner = inner;
    this.#events = events;
  }

  async #change(change: Change, work: () => Promise<void>): Promise<void> {
    const pending = { change, ended: false };
    this.#unflushed.add(pending);
    this.#events.push({ kind: 'change', file: this.filename, pending });
    await work();
    pending.ended = true;
  }

  get filename(): string {
    return this.#inner.filename;
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
    const change = { kind: 'zero', offset, length: inside } as const;
    return this.#change(change, () => this.#inner.discard(offset, length));
  }
  async copyFrom(source: Storage, from: number, to: number, length: number): Promise<number> {
    const bytes = new Uint8Array(length);
    await source.read(from, bytes);
    await this.write(to, bytes, 'data');
    return length;
  }
  extentAt(offset: number): Promise<StorageExtent> {
    return this.#inner.extentAt(offset);
  }
  allocatedBytes(): Promise<number | undefined> {
    return this.#inner.allocatedBytes();
  }
  async flush(): Promise<void> {
    const covers = [...this.#unflushed].filter(({ ended }) => ended);
    await this.#inner.flush();
    for (const each of covers) this.#unflushed.delete(each);
    this.#events.push({ kind: 'flush', file: this.filename, covers });
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

/** A memory host with these files, for a look at a state. */
export function hostWith(
  files: Files,
  options: ConstructorParameters<typeof MemoryHost>[0] = {},
): MemoryHost {
  const host = new MemoryHost(options);
  for (const [name, bytes] of files) host.addFile(name, bytes);
  return host;
}
