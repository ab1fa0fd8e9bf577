// A guest that writes, zeroes, discards, grows and flushes its disk: after a cut each sector is old or new,
// never torn, and what was flushed is there.

import { discardIn } from '../../../src/daemon/disk-discard.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { createImage } from '../../../src/qcow2/create.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import { alignDown, alignUp } from '../../../src/units.ts';
import { CrashHost, filesIn, type Random } from '../crash.ts';
import { type CrashOperation, ensure, newHost } from './scene.ts';

const SECTOR = 512;
const SECTORS = 100;

type GuestStep =
  | { readonly kind: 'write' | 'zero' | 'discard'; readonly at: number; readonly count: number }
  | { readonly kind: 'flush' }
  | { readonly kind: 'reopen' }
  | { readonly kind: 'grow'; readonly by: number };

/** For each sector, the values (one byte stands for all) that a reader may find. */
class Possible {
  #sectors: Set<number>[];

  constructor(sectors: number) {
    this.#sectors = Array.from({ length: sectors }, () => new Set([0]));
  }

  change(at: number, count: number, value: number): void {
    for (const sector of this.#sectors.slice(at, at + count)) sector.add(value);
  }

  grow(by: number): void {
    this.#sectors.push(...Array.from({ length: by }, () => new Set([0])));
  }

  /** A flush has ended: what was written last in each sector is there. */
  settle(last: readonly number[]): void {
    this.#sectors = this.#sectors.map((_, i) => new Set([last[i] ?? 0]));
  }

  copy(): readonly ReadonlySet<number>[] {
    return this.#sectors.map((sector) => new Set(sector));
  }
}

/** Carries steps out; `note` hears what may be found from there on. */
async function carryOut(
  first: Qcow2Image,
  steps: readonly GuestStep[],
  reopen: () => Promise<Qcow2Image>,
  note: (possible: Possible) => void,
): Promise<void> {
  let image = first;
  const sectors = first.size / SECTOR;
  const possible = new Possible(sectors);
  const last = Array.from({ length: sectors }, () => 0);
  note(possible);
  for (const [i, step] of steps.entries()) {
    if (step.kind === 'flush' || step.kind === 'reopen') {
      await (step.kind === 'flush' ? image.flush() : image.close());
      if (step.kind === 'reopen') image = await reopen();
      possible.settle(last);
      note(possible);
    } else if (step.kind === 'grow') {
      possible.grow(step.by);
      note(possible);
      await image.grow(image.size + step.by * SECTOR);
      last.push(...Array.from({ length: step.by }, () => 0));
    } else {
      const value = step.kind === 'write' ? 1 + (i % 255) : 0;
      const count = Math.min(step.count, image.size / SECTOR - step.at);
      possible.change(step.at, count, value);
      note(possible);
      const [from, to] = changedBy(step.kind, image, step.at * SECTOR, (step.at + count) * SECTOR);
      if (from < to) last.fill(value, from / SECTOR, to / SECTOR);
      if (step.kind === 'zero') await image.zero(from, to - from);
      else if (step.kind === 'write')
        await image.write(from, new Uint8Array(to - from).fill(value));
      else await discardIn(image, step.at * SECTOR, count * SECTOR);
    }
  }
  await image.close();
  possible.settle(last);
  note(possible);
}

/** What a step from `start` to `end` changes: of what is discarded, whole clusters read as zeros. */
function changedBy(
  kind: GuestStep['kind'],
  { clusterSize, size }: Qcow2Image,
  start: number,
  end: number,
): readonly [number, number] {
  if (kind !== 'discard') return [start, end];
  return [alignUp(start, clusterSize), end === size ? size : alignDown(end, clusterSize)];
}

function someSteps(random: Random, kinds: readonly GuestStep['kind'][]): readonly GuestStep[] {
  return Array.from({ length: 4 + random(12) }, (): GuestStep => {
    const kind = kinds[random(kinds.length)] ?? 'flush';
    if (kind === 'flush' || kind === 'reopen') return { kind };
    if (kind === 'grow') return { kind, by: random(90) };
    return { kind, at: random(SECTORS), count: 1 + random(40) };
  });
}

interface Shape {
  readonly clusterSize?: number;
  readonly version?: 2 | 3;
  readonly refcountBits?: number;
  readonly extendedL2?: boolean;
}

const DISCARDS = ['write', 'write', 'discard', 'discard', 'flush', 'reopen', 'grow'] as const;
const ALL = ['write', 'write', 'write', 'zero', 'zero', 'flush', 'reopen', 'grow'] as const;

function guest(
  name: string,
  shape: Shape,
  kinds: readonly GuestStep['kind'][] = ALL,
): CrashOperation {
  const clusterSize = shape.clusterSize ?? 512;
  return {
    name: `guest: ${name}`,
    async prepare(random) {
      const host = newHost();
      const storage = await host.createStorage('/image');
      const size = SECTORS * SECTOR;
      await (await createImage(storage, { size, clusterSize: 512, ...shape })).close();
      const steps = someSteps(random, kinds);
      const notes: { at: number; possible: readonly ReadonlySet<number>[] }[] = [];
      // A small cache: tables leave it, and checkpoints come in between.
      const open = async (from: Pick<MemoryHost, 'openStorage'>, writable: boolean) => {
        const opened = await from.openStorage('/image', { writable });
        return await Qcow2Image.open(opened, { cacheBytes: 8 * clusterSize });
      };
      const noteAt = (at: number) => notes.findLast((note) => note.at <= at) ?? notes[0];
      return {
        files: filesIn(host, ['/image']),
        caller: 'program',
        async run(recorder) {
          notes.length = 0;
          notes.push({ at: 0, possible: new Possible(SECTORS).copy() });
          const reopen = () => open(recorder, true);
          await carryOut(await reopen(), steps, reopen, (possible) =>
            notes.push({
              at: recorder instanceof CrashHost ? recorder.length : 0,
              possible: possible.copy(),
            }),
          );
        },
        promise: (at) => String(noteAt(at)?.at),
        async judge(state, at) {
          await expectOneOf(await open(state, false), noteAt(at)?.possible ?? []);
        },
        async finish(state) {
          const image = await open(state, true);
          await image.zero(0, image.size);
          let end: readonly ReadonlySet<number>[] = [];
          const same = steps.filter(({ kind }) => kind !== 'grow');
          const reopen = () => open(state, true);
          await carryOut(image, same, reopen, (possible) => {
            end = possible.copy();
          });
          await expectOneOf(await open(state, false), end);
        },
      };
    },
  };
}

async function expectOneOf(
  image: Qcow2Image,
  possible: readonly ReadonlySet<number>[],
): Promise<void> {
  const view = new Uint8Array(image.size);
  await image.read(0, view);
  for (let i = 0; i < image.size / SECTOR; i++) {
    const sector = view.subarray(i * SECTOR, (i + 1) * SECTOR);
    const value = sector[0] ?? 0;
    ensure(
      sector.every((byte) => byte === value),
      `sector ${i} is torn`,
    );
    const allowed = possible[i];
    ensure(allowed?.has(value) === true, `sector ${i} holds ${value}, not ${[...(allowed ?? [])]}`);
  }
}

export const GUEST = [
  guest('writes, zeroes, flushes, growing', {}),
  guest('writes alone', {}, ['write', 'write', 'write', 'flush']),
  guest('zeroes, in clusters of 1 KiB', { clusterSize: 1024 }, ['write', 'zero', 'zero', 'flush']),
  guest('discards', {}, DISCARDS),
  guest('discards, in clusters of 1 KiB', { clusterSize: 1024 }, DISCARDS),
  guest('version 2', { version: 2 }),
  guest('refcounts of 64 bits', { refcountBits: 64 }),
  guest('refcounts of 1 bit', { refcountBits: 1 }),
  guest('extended L2 entries', { clusterSize: 16384, extendedL2: true }),
];
