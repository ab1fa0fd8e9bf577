// What base shows already is compared, and not written again: the result is the same, and what is
// written follows what differs.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { asQcow2 } from '../../src/chain/chain.ts';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions } from '../../src/commit/options.ts';
import type { CommitProgress } from '../../src/commit/progress.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { KIB, MIB } from '../../src/units.ts';
import { buildChain, filesOf, memoryChain } from '../support/memory-chains.ts';
import { expectBytes, expectSoundFile, viewThrough } from '../support/memory-images.ts';
import { addImage, type NamedImage } from '../support/named-images.ts';
import { SimulatedHost } from '../support/simulated-host.ts';
import { pattern } from '../support/storage-contract.ts';
import { type Change, hostWith, WatchedHost } from '../support/watched-host.ts';

const CLUSTER = 64 * KIB;
const SIZE = 2 * MIB;
const SKIPPING = { skipIdentical: true };

/** Base and a top over it, in clusters of 64 KiB. */
async function addPair(host: MemoryHost, base: NamedImage, top: NamedImage): Promise<void> {
  const shape = { size: SIZE, clusterSize: CLUSTER };
  await addImage(host, '/base', { ...shape, ...base });
  await addImage(host, '/top', { ...shape, backingFile: 'base', backingFormat: 'qcow2', ...top });
}

async function change(
  host: MemoryHost,
  name: string,
  work: (chain: Awaited<ReturnType<typeof openChain>>) => Promise<void>,
): Promise<void> {
  await using chain = await openChain(name, { host, writable: true });
  await work(chain);
}

/** The commit, and what it did to base: bytes of data, and all that was done. */
async function watchedCommit(host: WatchedHost, options: Omit<CommitOptions, 'host'>) {
  const changes: Change[] = [];
  host.watch = (each) => void changes.push(each);
  const { plan } = await commit('/top', { host, ...SKIPPING, ...options });
  host.watch = () => undefined;
  const onBase = changes.filter(({ filename }) => filename === '/base');
  const data = onBase.flatMap((each) =>
    each.kind === 'write' && each.what === 'data' ? [each] : [],
  );
  const dataBytes = data.reduce((sum, { bytes }) => sum + bytes.length, 0);
  return { plan, changes, onBase, dataBytes };
}

test('a top that rewrote the same bytes: nothing is written to base, but it is synced', async () => {
  const host = new WatchedHost();
  await addPair(host, { filled: 1 }, { filled: 1 });
  const { plan, changes, onBase } = await watchedCommit(host, {});
  expect(plan).toMatchObject({ copyBytes: SIZE, identicalBytes: SIZE });
  expect(new Set(onBase.map(({ kind }) => kind))).toEqual(new Set(['flush']));
  // Before the top is emptied: what base holds may have been in memory alone.
  const emptied = changes.findIndex(
    ({ filename, kind }) => filename === '/top' && kind !== 'flush',
  );
  const synced = changes.findIndex(({ filename }) => filename === '/base');
  expect(emptied).toBeGreaterThan(synced);
  expectBytes(await viewThrough(host, '/top'), pattern(SIZE, 1));
});

test('another run after one that was stopped writes what is missing', async () => {
  const host = new WatchedHost();
  await addPair(host, {}, { filled: 1 });
  const stop = new AbortController();
  const onProgress = ({ done }: CommitProgress) => {
    if (done >= SIZE / 2) stop.abort(new Error('stopped'));
  };
  await expect(commit('/top', { host, onProgress, signal: stop.signal })).rejects.toThrow(
    'stopped',
  );
  const { plan, dataBytes } = await watchedCommit(host, {});
  expect(plan.identicalBytes).toBeGreaterThanOrEqual(SIZE / 2);
  expect(dataBytes).toBe(SIZE - (plan.identicalBytes ?? 0));
  expectBytes(await viewThrough(host, '/base'), pattern(SIZE, 1));
  await expectSoundFile(host, '/base');
});

test('of a cluster that differs, that cluster', async () => {
  const host = new WatchedHost();
  await addPair(host, { filled: 1 }, { filled: 1 });
  await change(host, '/top', (chain) => chain.write(5 * CLUSTER + 7, Uint8Array.of(1, 2, 3)));
  const view = await viewThrough(host, '/top');
  const { plan, dataBytes } = await watchedCommit(host, { drop: true });
  expect(plan.identicalBytes).toBe(SIZE - CLUSTER);
  expect(dataBytes).toBe(CLUSTER);
  expectBytes(await viewThrough(host, '/base'), view);
});

describe('zeros', () => {
  test.each([
    ['over zeros that are stored', true],
    ['over nothing', false],
  ])('%s are not written', async (_what, stored) => {
    const host = new WatchedHost();
    await addPair(host, {}, {});
    if (stored) await change(host, '/base', (chain) => chain.write(0, new Uint8Array(SIZE)));
    await change(host, '/top', (chain) => chain.top.zero(0, SIZE));
    const { plan, onBase } = await watchedCommit(host, {});
    expect(plan).toMatchObject({ zeroBytes: SIZE, identicalBytes: SIZE });
    expect(onBase.every(({ kind }) => kind === 'flush')).toBe(true);
  });

  test('that are stored, over zero clusters, are not written', async () => {
    const host = new WatchedHost();
    await addPair(host, {}, {});
    await change(host, '/base', (chain) => chain.top.zero(0, SIZE));
    await change(host, '/top', (chain) => chain.write(0, new Uint8Array(SIZE)));
    const { plan, onBase } = await watchedCommit(host, {});
    expect(plan).toMatchObject({ copyBytes: SIZE, identicalBytes: SIZE });
    expect(onBase.every(({ kind }) => kind === 'flush')).toBe(true);
  });

  test('over data that is in part zero: the other part becomes zero', async () => {
    const host = new WatchedHost();
    await addPair(host, {}, {});
    await change(host, '/base', (chain) => chain.write(SIZE / 2, pattern(SIZE / 2, 3)));
    await change(host, '/top', (chain) => chain.top.zero(0, SIZE));
    const { plan, dataBytes } = await watchedCommit(host, {});
    expect(plan.identicalBytes).toBe(SIZE / 2);
    expect(dataBytes).toBe(0);
    expectBytes(await viewThrough(host, '/base'), new Uint8Array(SIZE));
  });

  test('of a long range over a base that holds little take no reading', async () => {
    const host = new WatchedHost();
    await addPair(host, { size: 2 ** 40 }, { size: 2 ** 40 });
    await change(host, '/base', (chain) => chain.write(2 ** 35, pattern(CLUSTER, 3)));
    await change(host, '/top', (chain) => chain.top.zero(2 ** 34, 2 ** 36));
    const { plan } = await watchedCommit(host, { drop: true });
    expect(plan.identicalBytes).toBe(2 ** 36 - CLUSTER);
  });
});

test('a raw base', async () => {
  const host = new WatchedHost();
  await addPair(host, {}, { filled: 1, backingFormat: 'raw' });
  const bytes = pattern(SIZE, 1);
  bytes[SIZE - 1] = (bytes[SIZE - 1] ?? 0) ^ 1;
  host.addFile('/base', bytes.subarray(0, SIZE));
  const { plan, dataBytes } = await watchedCommit(host, {});
  expect([plan.identicalBytes, dataBytes]).toEqual([SIZE - CLUSTER, CLUSTER]);
  expectBytes(host.fileBytes('/base') ?? new Uint8Array(), pattern(SIZE, 1));
});

test('what is not written is not dirty in bitmaps that record', async () => {
  const host = new WatchedHost();
  await addPair(host, { filled: 1 }, { filled: 1 });
  await change(host, '/base', async ({ top }) => {
    const base = asQcow2(top);
    await base.changeBitmaps(async (bitmaps) => addBitmap(bitmaps, base, 'b', CLUSTER));
  });
  await change(host, '/top', (chain) => chain.write(3 * CLUSTER, new Uint8Array(CLUSTER)));
  await commit('/top', { host, ...SKIPPING });
  await using chain = await openChain('/base', { host });
  const { bitmaps } = asQcow2(chain.top);
  const dirty: unknown[] = [];
  const bitmap = bitmaps.find('b');
  if (bitmap === undefined) throw new Error('no bitmap');
  for await (const stretches of bitmaps.stretchesOf(bitmap)) dirty.push(...stretches);
  expect(dirty).toEqual([[3 * CLUSTER, 4 * CLUSTER]]);
});

test('a dry run tells how much, and what the rest needs', async () => {
  const host = new WatchedHost();
  await addPair(host, {}, { filled: 1 });
  await change(host, '/base', (chain) => chain.write(0, pattern(SIZE, 1).subarray(0, SIZE / 2)));
  const { plan } = await commit('/top', { host, ...SKIPPING, dryRun: true });
  expect(plan).toMatchObject({ copyBytes: SIZE, identicalBytes: SIZE / 2 });
  const without = await commit('/top', { host, dryRun: true });
  expect(without.plan.identicalBytes).toBeNull();
  // What base holds in clusters of its own takes no space either way.
  expect(without.plan.growthBytes).toBe(plan.growthBytes);
});

test('on a full disk, what base shows already asks for no space', async () => {
  const host = new WatchedHost();
  await addPair(host, {}, {});
  // Zeros as data over nothing.
  await change(host, '/top', (chain) => chain.write(0, new Uint8Array(SIZE)));
  Object.assign(host, { freeSpace: async () => 1000 });
  await expect(commit('/top', { host })).rejects.toMatchObject({ code: 'no-space' });
  await commit('/top', { host, ...SKIPPING });
});

test('bytes that are compared and left out have their share of rate and progress', async () => {
  const host = new SimulatedHost();
  await addPair(host, { filled: 1 }, { filled: 1 });
  await change(host, '/top', (chain) => chain.write(MIB, new Uint8Array(MIB)));
  const seen: CommitProgress[] = [];
  const started = host.now();
  const onProgress = (now: CommitProgress) => void seen.push(now);
  await commit('/top', { host, ...SKIPPING, rateLimit: MIB, onProgress });
  expect((host.now() - started) / 1000).toBeGreaterThanOrEqual(2);
  expect((host.now() - started) / 1000).toBeLessThanOrEqual(2.2);
  expect(seen.at(-1)).toMatchObject({ done: SIZE, total: SIZE });
});

test('compressed: only what differs gets a new place', async () => {
  const host = new WatchedHost();
  const { nodeCodecs } = await import('../../src/io/codecs.ts');
  Object.assign(host, { codecs: nodeCodecs });
  const half = new Uint8Array(SIZE);
  half.set(pattern(SIZE, 1).subarray(0, 4096), SIZE / 2);
  await addPair(host, {}, {});
  await change(host, '/top', (chain) => chain.write(0, half));
  const first = await watchedCommit(host, { compress: true, drop: true });
  expect(first.plan.identicalBytes).toBe(SIZE - CLUSTER);
  const second = await watchedCommit(host, { compress: true });
  expect([second.plan.identicalBytes, second.dataBytes]).toEqual([SIZE, 0]);
});

test('an error of the comparison stops it, the top stays', async () => {
  const host = new WatchedHost();
  await addPair(host, { filled: 1 }, { filled: 1 });
  const open = host.openStorage.bind(host);
  host.openStorage = async (filename, options) => {
    const storage = await open(filename, options);
    if (filename !== '/base') return storage;
    const read = storage.read.bind(storage);
    storage.read = async (offset, target) => {
      if (offset >= MIB) throw new Error('unreadable');
      await read(offset, target);
    };
    return storage;
  };
  await expect(commit('/top', { host, ...SKIPPING })).rejects.toThrow('unreadable');
  host.openStorage = open;
  expectBytes(await viewThrough(host, '/top'), pattern(SIZE, 1));
});

test(
  'any chain: base shows the same as without, a second run writes nothing',
  () =>
    fc.assert(
      fc.asyncProperty(
        memoryChain(1, 3),
        fc.record({
          reclaim: fc.boolean(),
          reclaimWindow: fc.constantFrom(1, 4096, 20_000),
          drop: fc.boolean(),
        }),
        async (layers, { reclaim, reclaimWindow, drop }) => {
          const host = new WatchedHost();
          const names = await buildChain(host, layers);
          const plain = hostWith(new MemoryHost(), filesOf(host, names));
          const top = names.at(-1) ?? '';
          const view = await viewThrough(host, top);
          const form = reclaim ? { reclaim, reclaimWindow } : { drop };
          const dry = await commit(top, { host, ...SKIPPING, ...form, dryRun: true });
          const { plan } = await commit(top, { host, ...SKIPPING, ...form });
          const { base } = (await commit(top, { host: plain })).plan;
          expect(plan.identicalBytes).toBe(dry.plan.identicalBytes);
          expectBytes(await viewThrough(host, top), view, 'the view through the top');
          expectBytes(await viewThrough(host, base), await viewThrough(plain, base), 'base');
          for (const [i, name] of names.entries()) {
            if (!layers[i]?.raw) await expectSoundFile(host, name);
          }
          const wrote: string[] = [];
          host.watch = ({ filename, kind }) => {
            if (filename === base && kind !== 'flush') wrote.push(kind);
          };
          const again = (await commit(top, { host, ...SKIPPING, drop: true })).plan;
          expect(again.identicalBytes).toBe(again.copyBytes + again.zeroBytes);
          expect(wrote).toEqual([]);
        },
      ),
      { numRuns: 60, seed: 8 },
    ),
  60_000,
);
