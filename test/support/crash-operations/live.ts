// Commits below a layer that a guest writes to meanwhile: after a cut each sector of its disk is old or
// new, what it flushed is there, and another run completes the commit.

import { openChain } from '../../../src/chain/open.ts';
import { OptionDict } from '../../../src/chain/option-dict.ts';
import { blockCommit } from '../../../src/daemon/block-commit.ts';
import { commitDevice } from '../../../src/daemon/commit-device.ts';
import { DaemonError } from '../../../src/daemon/daemon-error.ts';
import { Disk } from '../../../src/daemon/disk.ts';
import { Graph } from '../../../src/daemon/graph.ts';
import { Jobs } from '../../../src/daemon/jobs.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { pattern } from '../../../src/testing.ts';
import { CrashHost, type Random } from '../crash.ts';
import { buildLayers, type LayerSpec, SECTOR } from './layers.ts';
import { type CrashOperation, ensure, openState } from './scene.ts';

interface LiveCase {
  readonly name: string;
  /** The deepest first; the last one is the guest's. */
  readonly layers: readonly LayerSpec[];
  readonly top: string;
  readonly base: string;
  /** The job is cancelled after so many of the guest's steps. */
  readonly cancelAfter?: number;
  /** No job: the device is committed, all at once, after so many of the guest's steps. */
  readonly commitAfter?: number;
}

type Step =
  | {
      readonly kind: 'write' | 'zero';
      readonly at: number;
      readonly count: number;
      readonly turns: number;
    }
  | { readonly kind: 'flush'; readonly turns: number };

function someSteps(random: Random, sectors: number): readonly Step[] {
  return Array.from({ length: 8 }, () => {
    const kind = (['write', 'write', 'write', 'zero', 'flush'] as const)[random(5)] ?? 'flush';
    const turns = random(4);
    if (kind === 'flush') return { kind, turns };
    const at = random(sectors);
    return { kind, at, count: Math.min(1 + random(12), sectors - at), turns };
  });
}

/** What each sector may hold. */
type Possible = readonly ReadonlySet<string>[];

const sectorsOf = (bytes: Uint8Array): string[] =>
  Array.from({ length: bytes.length / SECTOR }, (_, i) =>
    Buffer.from(bytes.subarray(i * SECTOR, (i + 1) * SECTOR)).toString('latin1'),
  );

/** The guest, and what a reader may find of it. */
class Guest {
  #last: string[];
  #possible: Set<string>[];
  readonly #disk: Disk;
  readonly #note: (possible: Possible) => void;

  constructor(disk: Disk, view: Uint8Array, note: (possible: Possible) => void) {
    this.#disk = disk;
    this.#last = sectorsOf(view);
    this.#possible = this.#last.map((each) => new Set([each]));
    this.#note = note;
    this.#tell();
  }

  #tell(): void {
    this.#note(this.#possible.map((each) => new Set(each)));
  }

  async act(step: Step, seed: number): Promise<void> {
    if (step.kind === 'flush') {
      await this.#disk.flush();
      this.settle();
      return;
    }
    const { at, count } = step;
    const bytes =
      step.kind === 'zero' ? new Uint8Array(count * SECTOR) : pattern(count * SECTOR, seed);
    for (const [i, each] of sectorsOf(bytes).entries()) {
      this.#possible[at + i]?.add(each);
      this.#last[at + i] = each;
    }
    this.#tell();
    if (step.kind === 'zero') await this.#disk.zero(at * SECTOR, bytes.length);
    else await this.#disk.write(at * SECTOR, bytes);
  }

  /** What was written is durable. */
  settle(): void {
    this.#possible = this.#last.map((each) => new Set([each]));
    this.#tell();
  }
}

async function viewThrough(host: MemoryHost, name: string): Promise<Uint8Array> {
  await using chain = await openChain(name, { host });
  const view = new Uint8Array(chain.size);
  await chain.read(0, view);
  return view;
}

const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

function live({ name, layers, top, base, cancelAfter, commitAfter }: LiveCase): CrashOperation {
  const active = layers.at(-1)?.name ?? '';

  /** Opens the chain, commits, and has the guest at it; all is closed when it resolves. */
  async function run(
    host: MemoryHost,
    steps: readonly Step[],
    note: (possible: Possible) => void,
  ): Promise<void> {
    const view = await viewThrough(host, active);
    const graph = new Graph({ host, secrets: new Map() });
    const jobs = new Jobs(host, () => undefined);
    const options = new OptionDict([['driver', 'qcow2']]);
    const { node } = await graph.addDevice('d', { filename: active, options });
    const disk = new Disk(node.layer);
    const use = ['consistent read', 'write'] as const;
    await graph.attach(node, { use, hold: () => disk.hold() });
    const guest = new Guest(disk, view, note);
    const context = { graph, jobs, pieceBytes: 2048 };
    const first = Math.min(commitAfter ?? 0, steps.length);
    let all: Promise<void> = Promise.resolve();
    if (commitAfter === undefined) await blockCommit(context, { device: 'd', top, base });
    const [job] = jobs.all;
    for (const [i, step] of steps.entries()) {
      if (commitAfter === i) all = commitDevice(context, 'd');
      await guest.act(step, 500 + i);
      await turns(step.turns);
      if (cancelAfter === i && job?.state.status === 'running') await job.cancel();
    }
    while (jobs.all.length > 0) await turns(1);
    if (steps.length === first && commitAfter !== undefined) all = commitDevice(context, 'd');
    await all;
    await guest.act({ kind: 'write', at: 0, count: 2, turns: 0 }, 600);
    await jobs.endAll();
    await graph.close();
    guest.settle();
  }

  return {
    name: `live commit: ${name}`,
    async prepare(random) {
      const files = await buildLayers(layers, random);
      const steps = someSteps(
        random,
        (await viewThrough(openState(files), active)).length / SECTOR,
      );
      const notes: { readonly at: number; readonly possible: Possible }[] = [];
      const noteAt = (at: number) => notes.findLast((each) => each.at <= at) ?? notes[0];
      return {
        files,
        run: (host) =>
          run(host, steps, (possible) =>
            notes.push({ at: host instanceof CrashHost ? host.length : 0, possible }),
          ),
        promise: (at) => String(noteAt(at)?.at),
        async judge(state, at) {
          const found = sectorsOf(await viewThrough(state, active));
          const possible = noteAt(at)?.possible ?? [];
          const wrong = found.findIndex((each, i) => possible[i]?.has(each) !== true);
          ensure(wrong < 0, `sector ${wrong} holds what it may not`);
        },
        async finish(state) {
          const before = await viewThrough(state, active);
          const shown = await viewThrough(state, top);
          try {
            await run(state, [], () => undefined);
          } catch (error) {
            // The overlay stands on base already: the job is done.
            if (!(error instanceof DaemonError) || !error.message.includes('not found'))
              throw error;
          }
          const after = await viewThrough(state, active);
          const same =
            Buffer.compare(after.subarray(2 * SECTOR), before.subarray(2 * SECTOR)) === 0;
          ensure(same, 'the view is another one after another run');
          if (cancelAfter !== undefined) return;
          const filled = (await viewThrough(state, base)).subarray(0, shown.length);
          ensure(Buffer.compare(filled, shown) === 0, 'base does not show what top showed');
        },
      };
    },
  };
}

const small = (name: string, more: Partial<LayerSpec> = {}): LayerSpec => ({
  ...{ name, sectors: 40, writes: 2, longest: 8 },
  ...more,
});

export const LIVE: readonly CrashOperation[] = [
  live({
    name: 'a layer into the one below',
    layers: [small('/base'), small('/mid'), small('/top')],
    ...{ top: '/mid', base: '/base' },
  }),
  live({
    name: 'two layers, base grows, below a longer overlay',
    layers: [
      small('/deep', { sectors: 60 }),
      small('/base', { sectors: 20 }),
      small('/mid'),
      small('/mid2', { sectors: 50 }),
      small('/over', { sectors: 70 }),
      small('/top', { sectors: 70 }),
    ],
    ...{ top: '/mid2', base: '/base' },
  }),
  live({
    name: 'version 2 over a raw base that is longer',
    layers: [
      small('/base.raw', { sectors: 60 }),
      small('/mid', { version: 2 }),
      small('/top', { version: 2, sectors: 60 }),
    ],
    ...{ top: '/mid', base: '/base.raw' },
  }),
  live({
    name: 'external data files',
    layers: [
      small('/base', { dataFile: 'base.data' }),
      small('/mid'),
      small('/top', { dataFile: 'top.data' }),
    ],
    ...{ top: '/mid', base: '/base' },
  }),
  live({
    name: 'bitmaps that record, where the guest writes and in base',
    layers: [small('/base', { bitmaps: ['a'] }), small('/mid'), small('/top', { bitmaps: ['b'] })],
    ...{ top: '/mid', base: '/base' },
  }),
  live({
    name: 'cancelled half-way',
    layers: [small('/base'), small('/mid', { writes: 5 }), small('/top')],
    ...{ top: '/mid', base: '/base', cancelAfter: 3 },
  }),
  live({
    name: 'the whole device, emptied, base grows',
    layers: [small('/deep'), small('/base', { sectors: 20 }), small('/top')],
    ...{ top: '/top', base: '/base', commitAfter: 4 },
  }),
  live({
    name: 'the whole device, version 2 over a raw base',
    layers: [small('/base.raw'), small('/top', { version: 2 })],
    ...{ top: '/top', base: '/base.raw', commitAfter: 3 },
  }),
  live({
    name: 'the whole device, with bitmaps and an external data file',
    layers: [
      small('/base', { bitmaps: ['a'] }),
      small('/top', { bitmaps: ['b'], dataFile: 'top.data' }),
    ],
    ...{ top: '/top', base: '/base', commitAfter: 5 },
  }),
];
