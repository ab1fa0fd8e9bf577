// A guest that uses a disk while layers below it are committed, and a model of what it must see; all of
// it decided before, so that fast-check can shrink it.

import fc from 'fast-check';
import { expect } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { OptionDict } from '../../src/chain/option-dict.ts';
import { DaemonError } from '../../src/daemon/daemon-error.ts';
import { Disk } from '../../src/daemon/disk.ts';
import type { Permission } from '../../src/io/locks.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import type { FaultKind } from './faulty-host.ts';
import { HeldHost, LiveChain } from './live-chain.ts';
import { buildChain, type MemoryLayer, memoryChain, nameOf } from './memory-chains.ts';
import { expectBytes, expectSoundFile, viewOf, viewThrough } from './memory-images.ts';
import { pattern } from './storage-contract.ts';

type Request = 'write' | 'zero' | 'read';
type Order = 'pause' | 'resume' | 'cancel' | 'faster' | 'slower' | 'unlimited';

export type Action =
  | {
      readonly kind: 'write' | 'zero' | 'read';
      readonly at: number;
      readonly length: number;
      /** The next one comes when this one has ended. */
      readonly waits: boolean;
    }
  | { readonly kind: 'flush' }
  /** The job, and the clock, go on a bit. */
  | { readonly kind: 'pass'; readonly milliseconds: number }
  | { readonly kind: 'order'; readonly order: Order };

export interface LiveCase {
  /** Base first; the last one is the active layer. */
  readonly layers: readonly MemoryLayer[];
  /** As shares of the places that there are. */
  readonly top: number;
  readonly base: number;
  readonly pieceBytes: number;
  readonly speed: number;
  readonly autoFinalize: boolean;
  readonly actions: readonly Action[];
  readonly fault?: { readonly kind: FaultKind; readonly n: number; readonly forever: boolean };
}

const share = fc.double({ min: 0, max: 0.999, noNaN: true });
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 30,
    arbitrary: fc.record({
      kind: fc.constantFrom('write', 'write', 'zero', 'read', 'read'),
      at: share,
      length: fc.oneof(fc.integer({ min: 1, max: 900 }), fc.integer({ min: 1, max: 20_000 })),
      waits: fc.boolean(),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('flush') }) },
  {
    weight: 20,
    arbitrary: fc.record({
      kind: fc.constant('pass'),
      milliseconds: fc.constantFrom(0, 0, 10, 100, 500),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('order'),
      order: fc.constantFrom('pause', 'resume', 'faster', 'slower', 'unlimited'),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'order', order: 'cancel' } as const) },
) as fc.Arbitrary<Action>;

export const liveCase: fc.Arbitrary<LiveCase> = fc.record({
  layers: memoryChain(2, 4),
  top: share,
  base: share,
  pieceBytes: fc.constantFrom(512, 2048, 4096, 524_288),
  speed: fc.constantFrom(0, 5_000, 50_000),
  autoFinalize: fc.boolean(),
  actions: fc.array(action, { maxLength: 30 }),
});

export const faultyCase: fc.Arbitrary<LiveCase> = fc
  .record({
    each: liveCase,
    kind: fc.constantFrom<FaultKind>('write', 'write', 'flush', 'resize', 'zero'),
    n: fc.nat(25),
    forever: fc.boolean(),
  })
  .map(({ each, ...fault }) => ({ ...each, fault }));

/** Throws where anything is not as it must be. */
export async function holdsLive(each: LiveCase): Promise<void> {
  await new LiveTrial(each).run();
}

const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

class LiveTrial {
  readonly #case: LiveCase;
  readonly #host = new HeldHost();
  readonly #live: LiveChain;
  readonly #topIndex: number;
  readonly #baseIndex: number;
  #model: Uint8Array = new Uint8Array();
  #seed = 1000;
  readonly #underWay: Promise<void>[] = [];

  constructor(each: LiveCase) {
    this.#case = each;
    this.#live = new LiveChain(this.#host);
    this.#live.pieceBytes = each.pieceBytes;
    const last = each.layers.length - 1;
    this.#topIndex = 1 + Math.floor(each.top * (last - 1));
    this.#baseIndex = Math.floor(each.base * this.#topIndex);
  }

  async run(): Promise<void> {
    const { layers, actions, speed, autoFinalize } = this.#case;
    const names = await buildChain(this.#host, layers);
    const active = names.at(-1) ?? '';
    const [topName, baseName] = [nameOf(this.#topIndex), nameOf(this.#baseIndex)];
    const topView = await viewThrough(this.#host, topName);
    const options = new OptionDict([['driver', 'qcow2']]);
    const { node } = await this.#live.graph.addDevice('d', { filename: active, options });
    this.#model = await viewOf(node.layer);
    const disk = new Disk(node.layer);
    const use: readonly Permission[] = ['consistent read', 'write'];
    const user = await this.#live.graph.attach(node, { use, hold: () => disk.hold() });
    this.#arm();
    const args = { device: 'd', top: topName, base: baseName };
    await this.#live.commit({ ...args, speed, 'auto-finalize': autoFinalize }).catch((error) => {
      // What fails that early refuses it.
      if (this.#case.fault === undefined) throw error;
    });
    for (const each of actions) await this.#act(each, disk);
    await this.#finish();
    await Promise.all(this.#underWay);
    await this.#live.graph.detach(user);
    const told = this.#live.told();
    this.#host.arm(undefined);
    await this.#compare(disk, 0, this.#model.length, 'the open view at the end');
    const closed = await this.#live.close().then(
      () => true,
      () => false,
    );
    if (this.#case.fault === undefined) expect(closed).toBe(true);
    await this.#judge(told, topView, closed);
  }

  #arm(): void {
    const { fault } = this.#case;
    if (fault === undefined) return;
    const filename = nameOf(this.#baseIndex);
    this.#host.failsIn = filename;
    this.#host.arm({ ...fault, filename, errno: 'EIO' });
  }

  async #act(each: Action, disk: Disk): Promise<void> {
    const { host } = this.#live;
    if (each.kind === 'pass') {
      await turns(5);
      host.advance(each.milliseconds);
      await turns(5);
    } else if (each.kind === 'flush') await disk.flush();
    else if (each.kind === 'order') await this.#order(each.order);
    else {
      const request = this.#request(each, disk);
      this.#underWay.push(request);
      if (each.waits) await request;
    }
  }

  /** Requests that overlap take turns as they come: the model is right at once. */
  #request({ kind, at, length: most }: Action & { kind: Request }, disk: Disk): Promise<void> {
    const offset = Math.floor(at * disk.size);
    const length = Math.min(most, disk.size - offset);
    if (kind === 'read') return this.#compare(disk, offset, length, 'a read');
    const bytes = kind === 'zero' ? new Uint8Array(length) : pattern(length, this.#seed++);
    this.#model.set(bytes, offset);
    return kind === 'zero' ? disk.zero(offset, length) : disk.write(offset, bytes);
  }

  async #order(order: Order): Promise<void> {
    const [job] = this.#live.jobs.all;
    if (job === undefined) return;
    try {
      if (order === 'pause') job.pause();
      else if (order === 'resume') job.resume();
      else if (order === 'cancel') await job.cancel();
      else job.setSpeed({ faster: 100_000, slower: 2_000, unlimited: 0 }[order]);
    } catch (error) {
      // Not in that state.
      if (!(error instanceof DaemonError)) throw error;
    }
  }

  async #compare(disk: Disk, offset: number, length: number, what: string): Promise<void> {
    const expected = this.#model.slice(offset, offset + length);
    const bytes = new Uint8Array(length);
    await disk.read(offset, bytes);
    expectBytes(bytes, expected, `${what} at ${offset}`);
  }

  /** Whatever state it is in, it comes to an end. */
  async #finish(): Promise<void> {
    const { jobs } = this.#live;
    for (let round = 0; round < 50 && jobs.all.length > 0; round++) {
      await this.#order('resume');
      await this.#live.run();
      const [job] = jobs.all;
      if (job?.state.status === 'pending') await job.finalize();
    }
    expect(jobs.all).toEqual([]);
  }

  async #judge(told: readonly string[], topView: Uint8Array, closed: boolean): Promise<void> {
    const { layers } = this.#case;
    const names = layers.map((_, i) => nameOf(i));
    const [active, base, overlay] = [names.length - 1, this.#baseIndex, this.#topIndex + 1];
    const isDone = told.includes('COMPLETED');
    expect(await this.#backingOf(overlay)).toBe(`layer${isDone ? base : this.#topIndex}`);
    expectBytes(await viewThrough(this.#host, nameOf(active)), this.#model, 'the view at last');
    if (isDone) {
      const shown = await viewThrough(this.#host, nameOf(base));
      expectBytes(shown.subarray(0, topView.length), topView, 'base');
    }
    if (!closed) return;
    for (const [i, { raw }] of layers.entries()) {
      if (!raw) await expectSoundFile(this.#host, nameOf(i));
    }
  }

  async #backingOf(index: number): Promise<string | null> {
    await using chain = await openChain(nameOf(index), { host: this.#host, single: true });
    const { layer } = chain.at(0);
    return layer instanceof Qcow2Image ? layer.header.backingFile : null;
  }
}
