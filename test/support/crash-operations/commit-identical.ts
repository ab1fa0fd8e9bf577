// Commits that leave out what base shows already, after something that has put it there: a commit that
// was killed, long ago or just now with nothing of it synced, or a program that wrote below base.

import { openChain } from '../../../src/chain/open.ts';
import { commit } from '../../../src/commit/commit.ts';
import type { CommitOptions } from '../../../src/commit/options.ts';
import type { ImageError } from '../../../src/errors.ts';
import type { Host } from '../../../src/io/host.ts';
import { type Files, filesIn, type Random } from '../crash.ts';
import { dyingHost, type Life } from '../dying-host.ts';
import { buildLayers, type LayerSpec } from './layers.ts';
import { type CrashOperation, commandScene, openState } from './scene.ts';

interface IdenticalCase {
  readonly name: string;
  readonly layers: readonly LayerSpec[];
  readonly request?: Omit<CommitOptions, 'host'>;
  /** That a commit gets through before it is killed: from, to. Default: those of base. */
  readonly syncs?: readonly [number, number];
}

const layer = (name: string, more: Partial<LayerSpec> = {}): LayerSpec => ({
  name,
  writes: 6,
  ...more,
});

const CASES: readonly IdenticalCase[] = [
  { name: 'default', layers: [layer('/base'), layer('/top')] },
  { name: 'raw base', layers: [layer('/base.raw'), layer('/top')] },
  {
    name: 'version 2, zeros over a backing file',
    layers: [layer('/deep'), layer('/base', { version: 2 }), layer('/top', { version: 2 })],
  },
  {
    name: 'base grows',
    layers: [layer('/deep', { sectors: 150 }), layer('/base', { sectors: 50 }), layer('/top')],
  },
  {
    name: 'extended L2 entries',
    layers: [
      layer('/base', { extendedL2: true, clusterSize: 16384, sectors: 400 }),
      layer('/top', { extendedL2: true, clusterSize: 16384, sectors: 400, longest: 80 }),
    ],
  },
  {
    name: 'external data files',
    layers: [layer('/base', { dataFile: 'base.data' }), layer('/top', { dataFile: 'top.data' })],
  },
  {
    name: 'bitmaps that record',
    layers: [layer('/base', { bitmaps: ['a'] }), layer('/top', { bitmaps: ['a', 'b'] })],
    request: { bitmaps: true },
  },
  {
    name: 'lazy refcounts, not closed',
    layers: [
      layer('/base', { lazyRefcounts: true, dirty: true }),
      layer('/top', { lazyRefcounts: true }),
    ],
  },
  { name: '--compress', layers: [layer('/base'), layer('/top')], request: { compress: true } },
  {
    name: '--reclaim',
    layers: [layer('/base'), layer('/top')],
    request: { reclaim: true, reclaimWindow: 6000 },
  },
  {
    name: '-b --relink --delete, 3 files',
    layers: [layer('/base'), layer('/mid'), layer('/top')],
    request: { base: '/base', relink: true, delete: true },
  },
  {
    name: '--top --delete, 4 files',
    layers: [layer('/base'), layer('/mid'), layer('/mid2'), layer('/top')],
    request: { base: '/base', top: '/mid2', delete: true },
    // Those of the overlay that is relinked.
    syncs: [3, 4],
  },
];

/** Before a commit is killed, at most; many have fewer. */
const CHANGES = 60;
const SYNCS = [0, 2] as const;

function lifeBy({ syncs = SYNCS }: IdenticalCase, random: Random): Life {
  const [from, to] = syncs;
  return random(2) === 0 ? { changes: random(CHANGES) } : { syncs: from + random(to - from + 1) };
}

async function killedCommit({ request }: IdenticalCase, host: Host, life: Life): Promise<void> {
  const dying = dyingHost(host, life);
  await commit('/top', { ...request, host: dying }).catch((error: ImageError) => {
    // In a state in which the job is done, the layer that was merged may be gone.
    if (error.errno !== 'EIO' && error.code !== 'not-found') throw error;
  });
}

async function skippingCommit({ request }: IdenticalCase, host: Host): Promise<void> {
  await commit('/top', { ...request, host, skipIdentical: true });
}

/** As an earlier run has left them; the chain still there. */
async function interrupted(each: IdenticalCase, files: Files, random: Random): Promise<Files> {
  const host = openState(files);
  await killedCommit(each, host, lifeBy(each, random));
  const left = filesIn(host, files.keys());
  return left.size === files.size ? left : files;
}

function afterInterruption(each: IdenticalCase): CrashOperation {
  const { layers } = each;
  return {
    name: `commit --skip-identical: ${each.name}`,
    async prepare(random) {
      const files = await interrupted(each, await buildLayers(layers, random), random);
      const run = (host: Host) => skippingCommit(each, host);
      return await commandScene(files, { tops: ['/top'], storingZeros: ['/base'], run });
    },
  };
}

function rightAfterKill(each: IdenticalCase): CrashOperation {
  const { layers } = each;
  return {
    name: `commit --skip-identical, another one just killed: ${each.name}`,
    async prepare(random) {
      const files = await buildLayers(layers, random);
      const life = lifeBy(each, random);
      const run = async (host: Host) => {
        await killedCommit(each, host, life);
        await skippingCommit(each, host);
      };
      return await commandScene(files, { tops: ['/top'], storingZeros: ['/base'], run });
    },
  };
}

/** What the top shows was written below base by another program, and is not durable. */
const WRITTEN_BELOW: CrashOperation = {
  name: 'commit --skip-identical: what base shows was just written below it',
  async prepare(random) {
    const specs = [layer('/deep.raw'), layer('/base', { writes: 0 }), layer('/top')];
    const files = await buildLayers(specs, random);
    await using chain = await openChain('/top', { host: openState(files) });
    const view = new Uint8Array(chain.size);
    await chain.read(0, view);
    const run = async (host: Host) => {
      const deep = await host.openStorage('/deep.raw', { writable: true });
      await deep.write(0, view, 'data');
      await deep.close();
      await commit('/top', { host, skipIdentical: true });
    };
    return await commandScene(files, { tops: ['/top'], storingZeros: ['/base'], run });
  },
};

export const COMMIT_IDENTICAL: readonly CrashOperation[] = [
  ...CASES.map(afterInterruption),
  ...CASES.map(rightAfterKill),
  WRITTEN_BELOW,
];
