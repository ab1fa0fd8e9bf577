// Siblings that keep their view, on random chains in memory.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { alignUp } from '../../src/units.ts';
import {
  buildChain,
  filesOf,
  fillLayer,
  type MemoryLayer,
  memoryChain,
  memoryLayer,
  SECTORS,
} from '../support/memory-chains.ts';
import { expectBytes, expectSoundFile, viewThrough } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';
import { hostWith, WatchedHost } from '../support/watched-host.ts';

interface Other {
  /** A share of the layers below the top. */
  readonly on: number;
  readonly layer: MemoryLayer;
  readonly hasOverlay: boolean;
}

const other: fc.Arbitrary<Other> = fc.record({
  on: fc.double({ min: 0, max: 0.999, noNaN: true }),
  layer: memoryLayer(SECTORS).map((layer) => ({ ...layer, raw: false })),
  hasOverlay: fc.boolean(),
});

async function addOver(
  host: MemoryHost,
  name: string,
  below: string,
  format: string,
  layer: MemoryLayer,
): Promise<void> {
  const { sectors, clusterSize, version, refcountBits } = layer;
  const backing = { backingFile: below, backingFormat: format };
  const options = { size: sectors * 512, clusterSize, version, refcountBits, ...backing };
  await (await createImage(await host.createStorage(name), options)).close();
  await fillLayer(host, name, layer, name.length);
}

/** Names of the siblings and of what stands on them. */
async function addOthers(
  host: MemoryHost,
  layers: readonly MemoryLayer[],
  others: readonly Other[],
): Promise<readonly string[]> {
  const names: string[] = [];
  for (const [i, { on, layer, hasOverlay }] of others.entries()) {
    const below = Math.floor(on * (layers.length - 1));
    const name = `/disks/other${i}`;
    await addOver(host, name, `layer${below}`, layers[below]?.raw ? 'raw' : 'qcow2', layer);
    names.push(name);
    if (!hasOverlay) continue;
    await addOver(host, `${name}-above`, `other${i}`, 'qcow2', layer);
    names.push(`${name}-above`);
  }
  return names;
}

const viewsOf = (host: MemoryHost, names: readonly string[]) =>
  Promise.all(names.map((name) => viewThrough(host, name)));

async function keepsAll(
  layers: readonly MemoryLayer[],
  others: readonly Other[],
  depth: number,
): Promise<void> {
  const host = new MemoryHost();
  const chain = await buildChain(host, layers);
  const names = await addOthers(host, layers, others);
  const top = chain.at(-1) ?? '';
  const base = chain[depth % (layers.length - 1)] ?? '';
  const before = await viewsOf(host, [top, ...names]);
  const files = filesOf(host, names);
  const form = base === chain.at(-2) ? {} : { base, relink: true };
  const { plan } = await commit(top, { host, ...form, rebaseSiblings: true });
  for (const [i, view] of (await viewsOf(host, [top, ...names])).entries()) {
    expectBytes(view, before[i] ?? new Uint8Array(), [top, ...names][i] ?? '');
  }
  for (const name of names) await expectSoundFile(host, name);
  for (const { filename, growthBytes } of plan.siblingCopies) {
    const { clusterSize = 512 } = others[Number(/\d+/.exec(filename)?.[0])]?.layer ?? {};
    // The last cluster of a file may be there in part.
    const before = alignUp(files.get(filename)?.length ?? 0, clusterSize);
    const grown = (host.fileBytes(filename)?.length ?? 0) - before;
    expect(grown, filename).toBeLessThanOrEqual(growthBytes);
  }
  expect(plan.siblings).toEqual([]);
}

test('every view stays: the top, siblings, and what stands on them', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(
      memoryChain(1, 3),
      fc.array(other, { minLength: 1, maxLength: 3 }),
      fc.nat(3),
      keepsAll,
    ),
    { numRuns: 80, seed: 8 },
  ),
);

/** Inner layers: the named image stays above, what stands on the merged top is safe. */
async function keepsAllAboveInner(
  layers: readonly MemoryLayer[],
  others: readonly Other[],
): Promise<void> {
  const host = new MemoryHost();
  const chain = await buildChain(host, layers);
  const names = await addOthers(host, layers, others);
  const [active = '', top = ''] = chain.toReversed();
  const before = await viewsOf(host, [active, ...names]);
  await commit(active, { host, top, base: chain[0] ?? '', rebaseSiblings: true });
  for (const [i, view] of (await viewsOf(host, [active, ...names])).entries()) {
    expectBytes(view, before[i] ?? new Uint8Array(), [active, ...names][i] ?? '');
  }
  for (const name of [...chain.slice(1), ...names]) await expectSoundFile(host, name);
}

test('inner layers merged into the base: every view stays', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(
      memoryChain(2, 4),
      fc.array(other, { minLength: 1, maxLength: 3 }),
      keepsAllAboveInner,
    ),
    { numRuns: 60, seed: 8 },
  ),
);

const plain: MemoryLayer = {
  raw: false,
  sectors: 64,
  clusterSize: 4096,
  version: 3,
  refcountBits: 16,
  operations: [],
};

/** base <- top, with data; sibling over base. */
async function small(sibling: Partial<MemoryLayer> = {}): Promise<MemoryHost> {
  const host = new MemoryHost();
  await buildChain(host, [plain, plain]);
  await using chain = await openChain('/disks/layer1', { host, writable: true });
  await chain.write(0, pattern(8192, 1));
  await addOver(host, '/disks/sibling', 'layer0', 'qcow2', { ...plain, ...sibling });
  return host;
}

test.each([2, 3] as const)(
  'version %i: zeros behind the end of a base that grows',
  async (version) => {
    const host = new MemoryHost();
    await buildChain(host, [{ ...plain, sectors: 5 }, plain]);
    await using chain = await openChain('/disks/layer1', { host, writable: true });
    await chain.write(0, pattern(chain.size, 1));
    await chain.close();
    await addOver(host, '/disks/sibling', 'layer0', 'qcow2', { ...plain, sectors: 60, version });
    const view = await viewThrough(host, '/disks/sibling');
    await commit('/disks/layer1', { host, rebaseSiblings: true });
    expectBytes(await viewThrough(host, '/disks/sibling'), view, 'the sibling');
  },
);

test('what the sibling holds itself, or a layer between hides, is not copied', async () => {
  const host = await small();
  await using sibling = await openChain('/disks/sibling', { host, writable: true });
  await sibling.write(0, pattern(4096, 2));
  await sibling.close();
  const { plan } = await commit('/disks/layer1', { host, dryRun: true, rebaseSiblings: true });
  expect(plan.refusals).toEqual([]);
  expect(plan.siblingCopies).toMatchObject([
    { filename: '/disks/sibling', copyBytes: 0, zeroBytes: 4096 },
  ]);
});

test('a second run finds nothing left to copy', async () => {
  const host = await small();
  await commit('/disks/layer1', { host, drop: true, rebaseSiblings: true });
  const files = filesOf(host, ['/disks/sibling']);
  await commit('/disks/layer1', { host, rebaseSiblings: true });
  expect(filesOf(host, ['/disks/sibling'])).toEqual(files);
});

test.each([
  ['a format that is not the one of the chain', { backingFormat: 'raw' }],
  [
    'a description',
    { backingFile: 'json:{"driver":"qcow2","file":{"driver":"file","filename":"/disks/layer0"}}' },
  ],
])('refused: a sibling that names its backing file by %s', async (_what, options) => {
  const host = await small();
  const storage = await host.createStorage('/disks/odd');
  const backing = { backingFile: 'layer0', backingFormat: 'qcow2', ...options };
  await (await createImage(storage, { size: 65536, ...backing })).close();
  const files = filesOf(host, ['/disks/layer0', '/disks/sibling', '/disks/odd']);
  await expect(commit('/disks/layer1', { host, rebaseSiblings: true })).rejects.toMatchObject({
    code: 'unsupported',
    message: expect.stringContaining("'/disks/odd' can't be made independent"),
  });
  expect(filesOf(host, [...files.keys()])).toEqual(files);
});

test('progress is that of siblings and base together', async () => {
  const host = await small();
  const seen: (readonly [number, number])[] = [];
  await commit('/disks/layer1', {
    host,
    rebaseSiblings: true,
    onProgress: ({ done, total }) => void seen.push([done, total]),
  });
  expect(seen.at(-1)).toEqual([16384, 16384]);
  expect(new Set(seen.map(([, total]) => total))).toEqual(new Set([16384]));
  const done = seen.map(([bytes]) => bytes);
  expect(done).toEqual([...done].sort((a, b) => a - b));
});

test('whichever single change fails: all views stay, and another run completes it', async () => {
  const files = filesOf(await small({ clusterSize: 1024, version: 2 }), [
    '/disks/layer0',
    '/disks/layer1',
    '/disks/sibling',
  ]);
  const names = ['/disks/layer1', '/disks/sibling'];
  const views = await viewsOf(hostWith(new MemoryHost(), files), names);
  for (let n = 0, reached = true; reached; n++) {
    const host = hostWith(new WatchedHost(), files);
    let count = 0;
    host.watch = () => {
      if (count++ === n) throw new ImageError('io', 'broken', { errno: 'EIO' });
    };
    const request = { host, rebaseSiblings: true };
    const outcome = await commit('/disks/layer1', request).catch((error: unknown) => error);
    host.watch = () => undefined;
    reached = count > n;
    if (reached) expect(outcome).toMatchObject({ errno: 'EIO' });
    for (const when of ['failed', 'completed']) {
      if (when === 'completed') await commit('/disks/layer1', request);
      for (const [i, view] of (await viewsOf(host, names)).entries()) {
        expectBytes(view, views[i] ?? new Uint8Array(), `${names[i]}, change ${n} ${when}`);
      }
    }
  }
});
