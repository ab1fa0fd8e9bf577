// Power cuts while the layers above base let go of what it holds, part by part: the view through the
// top is what it was, no image has a corruption, and another run finishes, reclaiming or not.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions } from '../../src/commit/options.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { CrashHost, hostWith, type Random, randomFrom } from '../support/crash.ts';
import { buildChain, filesOf, type MemoryLayer, memoryChain } from '../support/memory-chains.ts';
import { expectBytes, findingsIn, viewThrough } from '../support/memory-images.ts';

type Form = Omit<CommitOptions, 'host'>;

/** States looked at for each chain, about; each third one is committed again. */
const STATES = 40;
const PER_EVENT = 3;

async function expectNoCorruption(host: MemoryHost, names: readonly string[], when: string) {
  for (const name of names) {
    if (host.fileBytes(name) === undefined) continue;
    const { corruptions, messages } = await findingsIn(
      await host.openStorage(name, { writable: false }),
    );
    expect({ name, when, found: corruptions > 0 ? messages : [] }).toEqual({
      name,
      when,
      found: [],
    });
  }
}

async function survives(layers: readonly MemoryLayer[], form: Form, random: Random) {
  const built = new MemoryHost();
  const names = await buildChain(built, layers);
  const top = names.at(-1) ?? '';
  const images = names.filter((_, i) => layers[i]?.raw !== true);
  const view = await viewThrough(built, top);
  const host = new CrashHost(filesOf(built, names));
  await commit(top, { host, ...form });

  const every = Math.max(1, Math.floor((host.length * PER_EVENT) / STATES));
  let seen = 0;
  for (const { at, files } of host.states(PER_EVENT, random)) {
    if (random(every) > 0) continue;
    const when = `after event ${at} of ${host.length}`;
    const state = hostWith(files);
    expectBytes(await viewThrough(state, top), view, `the view through the top, ${when}`);
    await expectNoCorruption(state, images, when);
    if (seen++ % 3 > 0) continue;
    // What was relinked makes dead layers look like siblings.
    const again = { ...form, reclaim: random(2) === 0, force: true };
    await commit(top, { host: state, ...again }).catch((error: unknown) => {
      expect(form.top, String(error)).toBeDefined();
      expect(error).toMatchObject({ code: 'not-found' });
    });
    expectBytes(await viewThrough(state, top), view, `the view, ${when} and another run`);
    await expectNoCorruption(state, images, `${when} and another run`);
  }
}

const sectors = fc.oneof(fc.constant(100), fc.integer({ min: 1, max: 120 }));

test.each<[string, number, Form]>([
  ['into the backing file', 1, {}],
  ['into the lowest layer', 2, { base: '/disks/layer0' }],
  ['into the lowest layer, relinking', 2, { base: '/disks/layer0', relink: true }],
  ['of inner layers', 3, { top: '/disks/layer2', base: '/disks/layer0', delete: true }],
])('%s', { timeout: 120_000 }, (_name, least, form) =>
  fc.assert(
    fc.asyncProperty(
      memoryChain(least, 3, sectors),
      fc.constantFrom(1, 2048, 16_384),
      fc.nat(),
      (layers, reclaimWindow, seed) =>
        survives(layers, { ...form, reclaim: true, reclaimWindow }, randomFrom(seed)),
    ),
    { numRuns: 20 },
  ),
);
