// Disks that get another size: after a cut there is the old one or the new one, with what belongs there.

import { openChain } from '../../../src/chain/open.ts';
import { resizeTop } from '../../../src/chain/resize.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { removeBitmap } from '../../../src/qcow2/bitmap-edit.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import type { Preallocation } from '../../../src/qcow2/preallocate.ts';
import { bitmapsIn } from '../bitmaps.ts';
import { filesIn, type Random } from '../crash.ts';
import { buildLayers, type LayerSpec, SECTOR } from './layers.ts';
import { type CrashOperation, ensure, openState } from './scene.ts';
import { snapshotViews } from './snapshot-views.ts';

interface ResizeCase {
  readonly name: string;
  /** `/top` gets another size. */
  readonly layers: readonly LayerSpec[];
  readonly to: number;
  readonly preallocation?: Preallocation;
}

/** More than any backing file has. */
const LARGEST = 400;

/** Shapes and sizes that `random` picks. */
function anyCase(random: Random): ResizeCase {
  const oneOf = <T>(...choices: readonly [T, ...T[]]): T =>
    choices[random(choices.length)] ?? choices[0];
  const version = oneOf(2 as const, 3 as const, 3 as const);
  const isNew = version === 3;
  const top: LayerSpec = {
    name: '/top',
    version,
    clusterSize: oneOf(512, 512, 1024, 4096),
    sectors: 100 + random(LARGEST - 100),
    writes: 2 + random(5),
    longest: 100,
    ...(isNew && { refcountBits: oneOf(8, 16, 64) }),
    ...(isNew && random(2) === 0 && { snapshot: true }),
    ...(isNew && random(2) === 0 && { bitmaps: ['a'] }),
  };
  const below = oneOf(0, 40, LARGEST);
  return {
    name: 'any',
    layers: below > 0 ? [{ name: '/base.raw', sectors: below }, top] : [top],
    to: 1 + random(LARGEST),
    preallocation: oneOf('off', 'metadata', 'full'),
  };
}

const one = (more: Partial<LayerSpec>): readonly LayerSpec[] => [{ name: '/top', ...more }];
const LONGER_BELOW: readonly LayerSpec[] = [{ name: '/base', sectors: 200 }, { name: '/top' }];

const CASES: readonly ResizeCase[] = [
  { name: 'grow', layers: one({}), to: 700 },
  { name: 'grow over a longer backing file', layers: LONGER_BELOW, to: 180 },
  {
    name: 'grow over a longer backing file, version 2',
    layers: [
      { name: '/base', sectors: 160 },
      { name: '/top', version: 2 },
    ],
    to: 150,
  },
  { name: 'grow, metadata', layers: one({ writes: 2 }), to: 190, preallocation: 'metadata' },
  { name: 'grow, full', layers: one({ writes: 2 }), to: 150, preallocation: 'full' },
  {
    name: 'grow over a longer backing file, metadata',
    layers: [{ name: '/base', sectors: 150 }, { name: '/top' }],
    to: 140,
    preallocation: 'metadata',
  },
  {
    name: 'grow, refcounts of 64 bits',
    layers: one({ refcountBits: 64, sectors: 20 }),
    to: 900,
    preallocation: 'metadata',
  },
  { name: 'grow, snapshot', layers: one({ snapshot: true }), to: 300 },
  {
    name: 'grow, bitmaps',
    layers: one({ clusterSize: 1024, bitmaps: ['a', 'still'] }),
    to: 190,
  },
  { name: 'grow, external data file', layers: one({ dataFile: 'top.data' }), to: 300 },
  { name: 'shrink, external data file', layers: one({ dataFile: 'top.data', writes: 6 }), to: 41 },
  { name: 'shrink', layers: one({ writes: 6 }), to: 21 },
  { name: 'shrink, version 2', layers: one({ version: 2 }), to: 40 },
  { name: 'shrink over a backing file', layers: LONGER_BELOW, to: 33 },
  {
    name: 'shrink, many tables',
    layers: one({ sectors: 900, writes: 7, longest: 90, refcountBits: 64 }),
    to: 70,
  },
  {
    name: 'shrink, compressed clusters',
    layers: one({ clusterSize: 4096, compressed: true, sectors: 200 }),
    to: 50,
  },
  {
    name: 'shrink, extended L2 entries',
    layers: one({ clusterSize: 16384, extendedL2: true, sectors: 200, longest: 60 }),
    to: 45,
  },
  {
    name: 'shrink, within a cluster',
    layers: one({ clusterSize: 4096, sectors: 200, writes: 8, longest: 100 }),
    to: 51,
  },
  { name: 'shrink, snapshot', layers: one({ snapshot: true, writes: 6 }), to: 30 },
  {
    name: 'shrink, bitmaps',
    layers: one({ clusterSize: 1024, bitmaps: ['a', 'still'] }),
    to: 30,
  },
];

async function resize(host: MemoryHost, sectors: number, preallocation: Preallocation = 'off') {
  await using chain = await openChain('/top', { host, writable: true });
  const { top } = chain;
  ensure(top instanceof Qcow2Image, 'not a qcow2 image');
  // What was caught while it was written, and says so, is to be removed first.
  await top.changeBitmaps(async (bitmaps) => {
    for (const { name, inconsistent } of [...bitmaps.list]) {
      if (inconsistent) removeBitmap(bitmaps, name);
    }
  });
  await resizeTop(chain, sectors * SECTOR, { host, preallocation, force: false });
}

interface Shown {
  readonly sectors: number;
  readonly view: Uint8Array;
  /** What each snapshot holds. */
  readonly snapshots: string;
  /** Dirty sectors of each bitmap; undefined while it is in use. */
  readonly bitmaps: ReadonlyMap<string, string | undefined>;
}

async function shownBy(host: MemoryHost): Promise<Shown> {
  await using chain = await openChain('/top', { host });
  const view = new Uint8Array(chain.size);
  await chain.read(0, view);
  const bitmaps = bitmapsIn(host.fileBytes('/top') ?? new Uint8Array()).map(
    ({ name, flags, dirty }) => [name, flags & 1 ? undefined : dirty.join()] as const,
  );
  const snapshots = await snapshotViews(copyOf(host), '/top');
  return { sectors: chain.size / SECTOR, view, snapshots, bitmaps: new Map(bitmaps) };
}

const copyOf = (host: MemoryHost): MemoryHost =>
  openState(filesIn(host, ['/base', '/base.raw', '/top', '/top.data']));

/** Throws unless it is one of the two, but for bitmaps in use. */
function expectEither(found: Shown, before: Shown, after: Shown): void {
  const meant = found.sectors === after.sectors ? after : before;
  ensure(found.sectors === meant.sectors, `a disk of ${found.sectors} sectors`);
  ensure(Buffer.compare(found.view, meant.view) === 0, 'the disk shows something else');
  ensure(found.snapshots === meant.snapshots, `snapshots: ${found.snapshots}`);
  const names = (shown: Shown) => [...shown.bitmaps.keys()].join();
  ensure(names(found) === names(before), `bitmaps: ${names(found)}`);
  for (const [name, dirty] of found.bitmaps) {
    const sides = [undefined, before.bitmaps.get(name), after.bitmaps.get(name)];
    ensure(sides.includes(dirty), `bitmap ${name}: ${dirty}`);
  }
}

/** What a cut left past the end of the disk is never seen. */
async function expectZerosPastEnd(state: MemoryHost): Promise<void> {
  const { view } = await shownBy(state);
  const copy = copyOf(state);
  await resize(copy, Math.max(LARGEST, view.length / SECTOR));
  const larger = await shownBy(copy);
  const wanted = new Uint8Array(larger.view.length);
  wanted.set(view);
  ensure(Buffer.compare(larger.view, wanted) === 0, 'there is something in what was added');
}

const operation = (name: string, pick: (random: Random) => ResizeCase): CrashOperation => ({
  name: `resize: ${name}`,
  async prepare(random) {
    const { layers, to, preallocation } = pick(random);
    const files = await buildLayers(layers, random);
    const run = (host: MemoryHost) => resize(host, to, preallocation);
    const before = await shownBy(openState(files));
    const ideal = openState(files);
    await run(ideal);
    const after = await shownBy(ideal);
    const judge = async (state: MemoryHost) => expectEither(await shownBy(state), before, after);
    return {
      files,
      run,
      judge,
      async finish(state) {
        await expectZerosPastEnd(state);
        await run(state);
        const { sectors, view, snapshots } = await shownBy(state);
        ensure(sectors === to, `another run ends with ${sectors} sectors`);
        ensure(Buffer.compare(view, after.view) === 0, 'after another run the disk shows others');
        ensure(snapshots === after.snapshots, `snapshots after another run: ${snapshots}`);
      },
    };
  },
});

export const RESIZES = [
  ...CASES.map((each) => operation(each.name, () => each)),
  operation('any disk to any size', anyCase),
];
