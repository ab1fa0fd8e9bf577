// A commit that is cut off at any of its writes, with any of what was not flushed lost: the view
// through the top is as before, all images are free of corruption, and another run completes it.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions } from '../../src/commit/options.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { buildChain, filesOf, type MemoryLayer, memoryChain } from '../support/memory-chains.ts';
import { expectBytes, findingsIn, viewThrough } from '../support/memory-images.ts';
import { afterCrash, type Change, hostWith, WatchedHost } from '../support/watched-host.ts';

type Form = Omit<CommitOptions, 'host'>;

/** The changes that a commit makes, and the files before it. */
async function record(layers: readonly MemoryLayer[], form: Form) {
  const host = new WatchedHost();
  const names = await buildChain(host, layers);
  const top = names.at(-1) ?? '';
  const view = await viewThrough(host, top);
  const before = filesOf(host, names);
  const changes: Change[] = [];
  host.watch = (change) => void changes.push(change);
  await commit(top, { host, ...form });
  return { top, view, before, changes };
}

type Recorded = Awaited<ReturnType<typeof record>>;

async function expectSurvives(
  { top, view, before, changes }: Recorded,
  layers: readonly MemoryLayer[],
  form: Form,
  count: number,
  coin: () => boolean,
): Promise<void> {
  const host = hostWith(new MemoryHost(), await afterCrash(before, changes, count, coin));
  const what = `the view through the top after ${count} of ${changes.length} changes`;
  expectBytes(await viewThrough(host, top), view, what);
  for (const [i, { raw }] of layers.entries()) {
    if (raw) continue;
    const storage = await host.openStorage(`/disks/layer${i}`, { writable: false });
    const { corruptions, messages } = await findingsIn(storage);
    expect({ i, corruptions, messages: corruptions ? messages : [], count }).toEqual({
      i,
      corruptions: 0,
      messages: [],
      count,
    });
  }
  // Once the top is relinked, the dead layers between look like siblings; once the overlay of a
  // layer in the middle is, that layer is no part of the chain.
  await commit(top, { host, ...form, force: true }).catch((error: unknown) => {
    expect(form.top).toBeDefined();
    expect(error).toMatchObject({ code: 'not-found' });
  });
  expectBytes(await viewThrough(host, top), view, `${what} and another run`);
}

const coins = fc.infiniteStream(fc.boolean());
const points = fc.double({ min: 0, max: 1, noNaN: true });
const sectors = fc.integer({ min: 1, max: 120 });

async function crashes(
  layers: readonly MemoryLayer[],
  form: Form,
  points: readonly number[],
  coin: () => boolean,
) {
  const recorded = await record(layers, form);
  for (const point of points) {
    const count = Math.round(point * recorded.changes.length);
    await expectSurvives(recorded, layers, form, count, coin);
  }
}

const next = (stream: Iterator<boolean>) => () => stream.next().value === true;

test('into the backing file, emptying the top', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(
      memoryChain(1, 2, sectors),
      fc.array(points, { minLength: 8, maxLength: 8 }),
      coins,
      (layers, at, stream) => crashes(layers, {}, at, next(stream)),
    ),
    { numRuns: 40 },
  ),
);

test('into a base further down, relinking the top', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(
      memoryChain(2, 3, sectors),
      fc.array(points, { minLength: 8, maxLength: 8 }),
      coins,
      (layers, at, stream) =>
        crashes(layers, { base: '/disks/layer0', relink: true }, at, next(stream)),
    ),
    { numRuns: 40 },
  ),
);

test('of a layer in the middle, relinking its overlay', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(
      memoryChain(2, 3, sectors),
      fc.array(points, { minLength: 8, maxLength: 8 }),
      coins,
      (layers, at, stream) =>
        crashes(layers, { top: '/disks/layer1', base: '/disks/layer0' }, at, next(stream)),
    ),
    { numRuns: 40 },
  ),
);

/** Everything, nothing, one half and the other of what was not flushed survives. */
const halves = [() => true, () => false, alternating(0), alternating(1)];

function alternating(parity: number): () => boolean {
  let n = parity;
  return () => n++ % 2 === 0;
}

const written: MemoryLayer = {
  raw: false,
  sectors: 100,
  clusterSize: 512,
  version: 3,
  refcountBits: 64,
  operations: [{ kind: 'write', at: 0, length: 40_000 }],
};

test('at each change of emptying a top whose tables lie apart', { timeout: 60_000 }, async () => {
  // Narrow refcount blocks: there are several, so that the tables get a new place.
  const layers = [{ ...written, operations: [] }, written];
  const recorded = await record(layers, {});
  for (let count = 0; count <= recorded.changes.length; count++) {
    for (const coin of halves) await expectSurvives(recorded, layers, {}, count, coin);
  }
});
