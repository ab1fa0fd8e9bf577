// A chain in memory, open in the daemon's graph by node names, with a guest's clock that only the test
// moves: who waits for a time waits until it comes.

import { openChain } from '../../src/chain/open.ts';
import { OptionDict } from '../../src/chain/option-dict.ts';
import { blockCommit } from '../../src/daemon/block-commit.ts';
import type { BlockCommitArguments } from '../../src/daemon/commit-range.ts';
import { Graph } from '../../src/daemon/graph.ts';
import { Jobs } from '../../src/daemon/jobs.ts';
import type { BlockNode } from '../../src/daemon/node.ts';
import type { Host } from '../../src/io/host.ts';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import type { JsonValue } from '../../src/json/parser.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { MIB } from '../../src/units.ts';
import { type FaultKind, FaultyHost } from './faulty-host.ts';

interface Sleeper {
  readonly until: number;
  readonly wake: () => void;
}

export class HeldHost extends FaultyHost {
  /** Where it fails, if it does. */
  failsIn: string | undefined;
  #now = 1_000_000;
  readonly #sleepers = new Set<Sleeper>();

  override meet(kind: FaultKind, filename: string, offset?: number): void {
    if (this.failsIn === undefined || this.failsIn === filename) super.meet(kind, filename, offset);
  }

  override now(): number {
    return this.#now;
  }

  override sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    if (milliseconds === 0) return new Promise((resolve) => setImmediate(resolve));
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const sleeper = { until: this.#now + milliseconds, wake: () => end(resolve) };
      const aborted = () => end(() => reject(signal?.reason));
      const end = (how: () => void) => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener('abort', aborted);
        how();
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', aborted);
    });
  }

  /** Lets time go by: whoever waited for it goes on. */
  advance(milliseconds: number): void {
    this.#now += milliseconds;
    for (const { until, wake } of [...this.#sleepers]) if (until <= this.#now) wake();
  }
}

/** One layer of a chain: its own content, over the one below. */
export interface LiveLayer {
  readonly name: string;
  /** In bytes. Default 8 MiB. */
  readonly size?: number;
  readonly clusterSize?: number;
  readonly raw?: boolean;
  /** What is written into it: `[offset, length, byte]`, in bytes. */
  readonly writes?: readonly (readonly [number, number, number])[];
  /** Rules of blkdebug below it. */
  readonly inject?: readonly { readonly [key: string]: JsonValue }[];
  readonly readOnly?: boolean;
}

/** As in the recorded dialogues. */
export const RECORDED: readonly LiveLayer[] = [
  { name: 'base', writes: [[0, MIB, 0x11]] },
  { name: 'mid', writes: [[MIB, 2 * MIB, 0x22]] },
  { name: 'top', writes: [[2 * MIB, 3 * MIB, 0x33]] },
];

export const fileOf = (name: string) => `/${name}.qcow2`;

/** Files of a chain, base first. */
export async function makeChain(host: MemoryHost, layers: readonly LiveLayer[]): Promise<void> {
  for (const [i, layer] of layers.entries()) {
    const { name, size = 8 * MIB, raw = false, clusterSize, writes = [] } = layer;
    const below = layers[i - 1];
    if (raw) host.addFile(fileOf(name), new Uint8Array(size));
    else {
      const image = await createImage(await host.createStorage(fileOf(name)), {
        size,
        ...(clusterSize !== undefined && { clusterSize }),
        ...(below && {
          backingFile: `${below.name}.qcow2`,
          backingFormat: below.raw ? 'raw' : 'qcow2',
        }),
      });
      await image.close();
    }
    const format = raw ? 'raw' : 'qcow2';
    await using chain = await openChain(fileOf(name), { host, writable: true, format });
    for (const [offset, length, byte] of writes) {
      await chain.write(offset, new Uint8Array(length).fill(byte));
    }
  }
}

export class LiveChain<H extends Host = HeldHost> {
  readonly host: H;
  readonly graph: Graph;
  readonly jobs: Jobs;
  pieceBytes = MIB / 2;
  /** What was told, not yet taken. */
  #events: (readonly [string, EventData])[] = [];

  constructor(host: H) {
    this.host = host;
    this.graph = new Graph({ host, secrets: new Map() });
    this.jobs = new Jobs(host, (name, data) => this.#events.push([name, data]));
  }

  /** The chain, open by node names over file nodes `f` and the first letter. */
  static async open(layers = RECORDED, host = new HeldHost()): Promise<LiveChain> {
    await makeChain(host, layers);
    const live = new LiveChain(host);
    await live.addAll(layers);
    return live;
  }

  /** Opens what is there, by node names over file nodes `f` and the first letter. */
  async addAll(layers: readonly LiveLayer[], nameOf = fileOf): Promise<void> {
    for (const [i, { name, raw = false, inject, readOnly = false }] of layers.entries()) {
      const below = layers[i - 1];
      const file = `f${name[0]}`;
      const filename = nameOf(name);
      await this.add({ driver: 'file', 'node-name': file, filename, 'read-only': readOnly });
      if (inject) {
        const image = `f${name[0]}`;
        await this.add({
          driver: 'blkdebug',
          'node-name': `e${name[0]}`,
          image,
          'inject-error': inject,
        });
      }
      await this.add({
        driver: raw ? 'raw' : 'qcow2',
        'node-name': name,
        'read-only': readOnly,
        file: inject ? `e${name[0]}` : file,
        ...(!raw && { backing: below?.name ?? null }),
      });
    }
  }

  /** The chain under a device, opened by the file of its top. */
  static async openDevice(device: string, layers: readonly LiveLayer[]): Promise<LiveChain> {
    const live = new LiveChain(new HeldHost());
    await makeChain(live.host, layers);
    const filename = fileOf(layers.at(-1)?.name ?? '');
    const options = new OptionDict([['driver', 'qcow2']]);
    await live.graph.addDevice(device, { filename, options });
    return live;
  }

  add(options: { readonly [key: string]: JsonValue }): Promise<BlockNode> {
    return this.graph.add(OptionDict.fromObject(options));
  }

  node(name: string): BlockNode {
    return this.graph.lookUp(name, name);
  }

  commit(args: BlockCommitArguments): Promise<void> {
    return blockCommit(this, args);
  }

  /** All that was told since the last time. */
  take(): readonly (readonly [string, EventData])[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** In short: the status, or the event's name and what is of interest about it. */
  told(): readonly string[] {
    return this.take().map(([name, data]) => {
      if (name === 'JOB_STATUS_CHANGE') return String(data['status']);
      const { operation, action, error } = data as Record<string, unknown>;
      const more = [operation, action, error].filter((each) => each !== undefined);
      return [name.replace('BLOCK_JOB_', ''), ...more].join(' ');
    });
  }

  /** No job goes on by itself: each waits, for the clock or for an order, or is gone. */
  async quiet(): Promise<void> {
    const goesOn = () => this.jobs.all.some(({ busy, state }) => busy || state.finalizing);
    do await new Promise((resolve) => setImmediate(resolve));
    while (goesOn());
  }

  /** Moves the clock until no job is left that only waits for it. */
  async run(): Promise<void> {
    for (let turn = 0; turn < 1000; turn++) {
      await this.quiet();
      if (!this.jobs.all.some(({ state }) => state.status === 'running')) return;
      const { host } = this;
      if (host instanceof HeldHost) host.advance(100);
      else await host.sleep(10);
    }
    throw new Error('a job goes on for ever');
  }

  async close(): Promise<void> {
    await this.jobs.endAll();
    await this.graph.close();
  }
}

type EventData = Readonly<Record<string, unknown>>;
