// Commits of random chains in memory: the view through the top stays, base shows it too, all images
// are sound, and the plan told the truth.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions, CommitPlan } from '../../src/commit/options.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import {
  buildChain,
  digestsOf,
  type MemoryLayer,
  memoryChain,
  SECTORS,
} from '../support/memory-chains.ts';
import { expectBytes, expectSoundFile, viewThrough } from '../support/memory-images.ts';

type Form = Omit<CommitOptions, 'host'>;

const sound = async (host: MemoryHost, layers: readonly MemoryLayer[], gone: readonly string[]) => {
  for (const [i, { raw }] of layers.entries()) {
    const name = `/disks/layer${i}`;
    if (!raw && !gone.includes(name)) await expectSoundFile(host, name);
  }
};

/** Base as it must be: what the top showed, and past its end its own bytes. */
function expectedBase(top: Uint8Array, base: Uint8Array): Uint8Array {
  const expected = new Uint8Array(Math.max(top.length, base.length));
  expected.set(base);
  expected.set(top);
  return expected;
}

async function commitAndCompare(
  layers: readonly MemoryLayer[],
  form: Form,
  base: string,
): Promise<{ readonly host: MemoryHost; readonly plan: CommitPlan }> {
  const host = new MemoryHost();
  const names = await buildChain(host, layers);
  const top = names.at(-1) ?? '';
  const view = await viewThrough(host, top);
  const baseView = await viewThrough(host, base);
  const { plan } = await commit(top, { host, ...form });
  expectBytes(await viewThrough(host, top), view, 'the view through the top');
  expectBytes(await viewThrough(host, base), expectedBase(view, baseView), 'base');
  await sound(host, layers, plan.deletes);
  return { host, plan };
}

test('into the backing file: the top is empty afterwards', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(memoryChain(1, 3), async (layers) => {
      const base = `/disks/layer${layers.length - 2}`;
      const { host, plan } = await commitAndCompare(layers, {}, base);
      expect(plan.empties).toBe(`/disks/layer${layers.length - 1}`);
      const again = await commit(plan.top, { host, dryRun: true });
      expect(again.plan).toMatchObject({ ranges: 0, copyBytes: 0, zeroBytes: 0 });
    }),
    { numRuns: 60 },
  ),
);

test('into a base further down, relinked and without the rest', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(memoryChain(2, 4), fc.nat(3), async (layers, depth) => {
      const base = `/disks/layer${depth % (layers.length - 2)}`;
      const form = { base, relink: true, delete: true };
      const { host, plan } = await commitAndCompare(layers, form, base);
      expect(plan.deletes).toEqual(plan.merged.slice(1));
      for (const name of plan.deletes) expect(host.fileBytes(name)).toBeUndefined();
    }),
    { numRuns: 60 },
  ),
);

test('of the middle of a chain: the overlay shows the same', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(memoryChain(2, 4), fc.nat(9), fc.nat(9), async (layers, a, b) => {
      const host = new MemoryHost();
      const names = await buildChain(host, layers);
      const top = 1 + (a % (layers.length - 2));
      const base = b % top;
      const active = names.at(-1) ?? '';
      const views = await Promise.all(names.slice(top).map((name) => viewThrough(host, name)));
      const form = { top: names[top] ?? '', base: names[base] ?? '', delete: true };
      const { plan } = await commit(active, { host, ...form });
      for (const [i, name] of names.slice(top + 1).entries()) {
        expectBytes(await viewThrough(host, name), views[i + 1] ?? new Uint8Array(), name);
      }
      expectBytes(
        (await viewThrough(host, form.base)).subarray(0, views[0]?.length),
        views[0] ?? new Uint8Array(),
        'base',
      );
      expect(plan.deletes).toEqual(plan.merged);
      await sound(host, layers, plan.deletes);
    }),
    { numRuns: 60 },
  ),
);

test('a dry run tells the same plan and writes nothing', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(memoryChain(1, 3, SECTORS), async (layers) => {
      const host = new MemoryHost();
      const names = await buildChain(host, layers);
      const top = names.at(-1) ?? '';
      const before = digestsOf(host, names);
      const dry = await commit(top, { host, dryRun: true });
      expect(dry.dryRun).toBe(true);
      expect(digestsOf(host, names)).toEqual(before);
      const real = await commit(top, { host });
      expect(dry.plan).toEqual(real.plan);
    }),
    { numRuns: 60 },
  ),
);
