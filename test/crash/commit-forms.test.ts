// A commit, a power cut at any moment: whatever is left, the guest's view through the top is what it
// was, no image has a corruption, and the same command again finishes the job.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions } from '../../src/commit/options.ts';
import { nodeCodecs } from '../../src/io/codecs.ts';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import { CrashHost, hostWith, randomFrom } from '../support/crash.ts';
import { checkAll, crashedView, load, stack } from '../support/crash-chains.ts';
import { aes, encryptedFile, luks, utf8 } from '../support/encrypted.ts';
import { Images } from '../support/images.ts';

const CODECS = { codecs: nodeCodecs };
/** States looked at for each case, about; the same with the second command on top of them. */
const STATES = 60;
const RERUNS = 12;

interface Case {
  readonly name: string;
  build(images: Images): Promise<void>;
  readonly filename: string;
  readonly request?: Omit<CommitOptions, 'host'>;
  /** Further images whose view stays. */
  readonly others?: readonly string[];
}

const SMALL = 'cluster_size=512';
const SECRETS = new Map([
  ['l', utf8('one')],
  ['a', utf8('two')],
]);
const BASE = {
  driver: 'qcow2',
  encrypt: { 'key-secret': 'l' },
  file: { driver: 'file', filename: 'base.qcow2' },
} as const;
const TOP = {
  driver: 'qcow2',
  encrypt: { 'key-secret': 'a' },
  file: { driver: 'file', filename: 'top.qcow2' },
} as const;
const CASES: readonly Case[] = [
  {
    name: 'default, emptied in the fast form',
    build: (images) => stack(images, { 'base.qcow2': SMALL, 'top.qcow2': SMALL }),
    filename: 'top.qcow2',
  },
  {
    name: 'default, larger clusters, tables at their place',
    build: (images) => stack(images, { 'base.qcow2': 'cluster_size=4k', 'top.qcow2': undefined }),
    filename: 'top.qcow2',
  },
  {
    name: 'default, emptied in the slow form',
    build: async (images) => {
      await stack(images, { 'base.qcow2': SMALL, 'top.qcow2': 'cluster_size=1k' });
      await images.qemuImg('snapshot', '-c', 's', 'top.qcow2');
      await images.io('top.qcow2', 'write -P 9 60k 30k');
    },
    filename: 'top.qcow2',
  },
  {
    name: 'version 2, zeros over a backing file',
    build: (images) =>
      stack(images, {
        'deep.qcow2': SMALL,
        'base.qcow2': 'compat=0.10,cluster_size=512',
        'top.qcow2': 'compat=0.10,cluster_size=1k',
      }),
    filename: 'top.qcow2',
  },
  {
    name: 'a raw base',
    build: (images) => stack(images, { 'base.raw': undefined, 'top.qcow2': SMALL }),
    filename: 'top.qcow2',
  },
  {
    name: 'snapshots in base',
    build: async (images) => {
      await stack(images, { 'base.qcow2': SMALL });
      await images.qemuImg('snapshot', '-c', 's', 'base.qcow2');
      await images.create('top.qcow2', '200k', { backing: 'base.qcow2', options: SMALL });
      await images.io('top.qcow2', 'write -P 9 30k 100k');
    },
    filename: 'top.qcow2',
  },
  {
    name: 'a base that grows, over a longer backing file',
    build: async (images) => {
      await stack(images, { 'deep.qcow2': SMALL }, '300k');
      await images.create('base.qcow2', '100k', { backing: 'deep.qcow2', options: SMALL });
      await images.io('base.qcow2', 'write -P 7 90k 10k');
      await images.create('top.qcow2', '260k', { backing: 'base.qcow2', options: SMALL });
      await images.io('top.qcow2', 'write -P 8 200k 10k', 'write -z 10k 20k');
    },
    filename: 'top.qcow2',
  },
  {
    name: 'a dirty base',
    build: async (images) => {
      await images.create('base.qcow2', '200k', { options: `${SMALL},lazy_refcounts=on` });
      await images.io('base.qcow2', 'write -P 1 0 60k', 'flush', 'abort').catch(() => undefined);
      await images.create('top.qcow2', '200k', { backing: 'base.qcow2', options: SMALL });
      await images.io('top.qcow2', 'write -P 2 50k 80k');
    },
    filename: 'top.qcow2',
  },
  {
    name: 'compressed clusters on both sides',
    build: async (images) => {
      await images.create('base.qcow2', '256k', { options: 'cluster_size=4k' });
      await images.create('top.qcow2', '256k', {
        backing: 'base.qcow2',
        options: 'cluster_size=4k',
      });
      for (const name of ['base.qcow2', 'top.qcow2']) {
        await images.io(name, ...[0, 1, 2, 5].map((i) => `write -c -P ${i + 3} ${i * 4}k 4k`));
      }
    },
    filename: 'top.qcow2',
  },
  {
    name: 'extended L2 entries on both sides, in base subclusters of all kinds',
    build: async (images) => {
      await stack(images, {
        'deep.raw': undefined,
        'base.qcow2': 'extended_l2=on,cluster_size=16k',
        'top.qcow2': 'extended_l2=on,cluster_size=32k',
      });
      await images.qemuImg('snapshot', '-c', 's', 'base.qcow2');
    },
    filename: 'top.qcow2',
  },
  {
    name: '-b, the layers between left alone',
    build: (images) =>
      stack(images, { 'base.qcow2': SMALL, 'mid.qcow2': SMALL, 'top.qcow2': SMALL }),
    filename: 'top.qcow2',
    request: { base: 'base.qcow2' },
  },
  ...['off', 'on'].map((raw) => ({
    name: `external data files on both sides, base's raw: ${raw}`,
    build: async (images: Images) => {
      const option = `${SMALL},data_file=base.data,data_file_raw=${raw}`;
      await stack(images, { 'base.qcow2': option, 'top.qcow2': `${SMALL},data_file=top.data` });
    },
    filename: 'top.qcow2',
  })),
  {
    name: 'clusters that are stored compressed',
    build: (images) => stack(images, { 'base.qcow2': 'cluster_size=1k', 'top.qcow2': SMALL }),
    filename: 'top.qcow2',
    request: { compress: true },
  },
  {
    name: 'encrypted on both sides, with different keys',
    build: async (images) => {
      const disk = { size: 200 * 1024, clusterSize: 1024 };
      await encryptedFile(images.path('base.qcow2'), { ...disk, encryption: luks('one') });
      await encryptedFile(images.path('top.qcow2'), {
        ...disk,
        encryption: aes('two'),
        backingFile: 'base.qcow2',
        backingFormat: 'qcow2',
      });
      const host = { host: nodeHost, secrets: SECRETS, writable: true };
      const base = { ...BASE, file: { driver: 'file', filename: images.path('base.qcow2') } };
      await using below = await openChain(base, host);
      await below.write(3000, new Uint8Array(90_000).fill(1));
      await below.close();
      const file = { driver: 'file', filename: images.path('top.qcow2') };
      await using chain = await openChain({ ...TOP, file, backing: base }, host);
      await chain.write(60_000, new Uint8Array(80_000).fill(2));
      await chain.zero(10_000, 5000);
    },
    filename: `json:${JSON.stringify({ ...TOP, backing: BASE })}`,
    request: { secrets: SECRETS },
  },
  {
    name: '-b with relink and delete',
    build: (images) =>
      stack(images, { 'base.qcow2': SMALL, 'mid.qcow2': SMALL, 'top.qcow2': 'cluster_size=4k' }),
    filename: 'top.qcow2',
    request: { base: 'base.qcow2', relink: true, delete: true },
  },
  {
    name: 'inner layers, two overlays, delete',
    build: async (images) => {
      const layers = ['base.qcow2', 'sn1.qcow2', 'sn2.qcow2', 'sn3.qcow2', 'sn4.qcow2'];
      await stack(images, Object.fromEntries(layers.map((name) => [name, SMALL])));
      await images.create('other.qcow2', '210k', { backing: 'sn3.qcow2', options: SMALL });
      await images.io('other.qcow2', 'write -P 99 5k 9k');
    },
    filename: 'sn4.qcow2',
    request: { top: 'sn3.qcow2', base: 'sn1.qcow2', overlays: ['other.qcow2'], delete: true },
  },
  {
    name: 'siblings that keep their view, over base and a layer between, and one on top of one',
    build: async (images) => {
      await stack(images, { 'base.qcow2': SMALL, 'mid.qcow2': SMALL, 'top.qcow2': SMALL });
      await images.create('one.qcow2', '150k', { backing: 'base.qcow2', options: SMALL });
      await images.io('one.qcow2', 'write -P 70 10k 20k');
      await images.create('two.qcow2', '210k', {
        backing: 'mid.qcow2',
        options: 'cluster_size=4k',
      });
      await images.create('above.qcow2', '210k', { backing: 'one.qcow2', options: SMALL });
      await images.io('above.qcow2', 'write -P 71 25k 9k');
    },
    filename: 'top.qcow2',
    request: { base: 'base.qcow2', relink: true, rebaseSiblings: true },
    others: ['one.qcow2', 'two.qcow2', 'above.qcow2'],
  },
  {
    name: 'siblings of a base that grows',
    build: async (images) => {
      await images.create('base.qcow2', '70k', { options: SMALL });
      await images.create('top.qcow2', '200k', { backing: 'base.qcow2', options: SMALL });
      await images.io('top.qcow2', 'write -P 5 0 200k');
      await images.create('one.qcow2', '150k', {
        backing: 'base.qcow2',
        options: `${SMALL},compat=0.10`,
      });
    },
    filename: 'top.qcow2',
    request: { rebaseSiblings: true },
    others: ['one.qcow2'],
  },
];

/**
 * The same in windows of some clusters, let go of above base as it goes. Keys take long; a layer that
 * others stand on is not emptied.
 */
const RECLAIMING = CASES.filter(
  ({ request, others = [] }) => !request?.secrets && !others.includes('two.qcow2'),
).map((each) => ({
  ...each,
  name: `${each.name}; reclaiming`,
  request: { ...each.request, reclaim: true, reclaimWindow: 30_000 },
}));

/** Images that nothing stands on: what guests see. */
function tops({ filename, request, others = [] }: Case): readonly string[] {
  return [filename, ...(request?.overlays ?? []), ...others];
}

test.each([...CASES, ...RECLAIMING])('$name', { timeout: 120_000 }, async (each) => {
  const images = new Images();
  await each.build(images);
  const files = load(images);
  const before = new Map<string, Uint8Array>();
  for (const name of tops(each)) {
    before.set(name, await crashedView(hostWith(files, CODECS), name, each.request));
  }
  const host = new CrashHost(files, CODECS);
  await commit(each.filename, { ...each.request, host });

  const keeps = async (state: MemoryHost, when: string) => {
    for (const [name, view] of before) {
      const same = Buffer.from(view).equals(await crashedView(state, name, each.request));
      expect(same, `the view through ${name}, ${when}`).toBe(true);
    }
  };
  const random = randomFrom(1);
  const perEvent = 3;
  const every = Math.max(1, Math.floor((host.length * perEvent) / STATES));
  let seen = 0;
  for (const { at, files: left } of host.states(perEvent, random)) {
    if (random(every) > 0) continue;
    const state = hostWith(left, CODECS);
    await keeps(state, `after event ${at}`);
    await checkAll(state, left);
    if (seen++ % Math.ceil(STATES / RERUNS) > 0) continue;
    const again = commit(each.filename, { ...each.request, host: state });
    // Once the named top is removed there is nothing to find any more: the work is done.
    const isOver = each.request?.top !== undefined && !left.has(each.request.top);
    if (isOver) await expect(again).rejects.toThrow(/Did not find/);
    else await again;
    await keeps(state, `after event ${at} and another run`);
    const names = [...left.keys()].filter((name) => state.fileBytes(name) !== undefined);
    await checkAll(
      state,
      new Map(names.map((name) => [name, state.fileBytes(name) as Uint8Array])),
    );
  }
  expect(seen).toBeGreaterThan(STATES / 3);
});
