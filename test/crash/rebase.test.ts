// A rebase, a power cut at any moment: whatever is left, the guest's view through the image is what it
// was, the image has no corruption, and the same command again finishes the job.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { rebase } from '../../src/commit/rebase.ts';
import type { RebaseOptions } from '../../src/commit/rebase-options.ts';
import { nodeCodecs } from '../../src/io/codecs.ts';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import { CrashHost, hostWith, randomFrom } from '../support/crash.ts';
import { checkAll, crashedView, load, stack } from '../support/crash-chains.ts';
import { Images } from '../support/images.ts';

const CODECS = { codecs: nodeCodecs };
/** States looked at for each case, about; the same with the second command on top of them. */
const STATES = 45;
const RERUNS = 11;

const SMALL = 'cluster_size=512';

interface Case {
  readonly name: string;
  /** Options of base, mid and top.qcow2, and of other.qcow2. */
  readonly layers: Readonly<Record<string, string | undefined>>;
  readonly other?: string;
  readonly more?: (images: Images) => Promise<unknown>;
  readonly request: Omit<RebaseOptions, 'host'>;
}

const THREE = { 'base.qcow2': SMALL, 'mid.qcow2': SMALL, 'top.qcow2': SMALL };
const CASES: readonly Case[] = [
  {
    name: 'onto a lower layer',
    layers: THREE,
    request: { backing: 'base.qcow2', backingFormat: 'qcow2' },
  },
  { name: 'onto nothing', layers: THREE, request: { backing: '' } },
  {
    name: 'onto another image',
    layers: { ...THREE, 'top.qcow2': 'cluster_size=4k' },
    other: 'cluster_size=1k',
    request: { backing: 'other.qcow2', backingFormat: 'qcow2' },
  },
  {
    name: 'version 2, onto a longer name',
    layers: { 'base.qcow2': SMALL, 'top.qcow2': 'compat=0.10,cluster_size=1k' },
    other: SMALL,
    request: { backing: `${'./'.repeat(50)}other.qcow2`, backingFormat: 'qcow2' },
  },
  {
    name: 'extended L2 entries',
    layers: { 'base.qcow2': SMALL, 'top.qcow2': 'extended_l2=on,cluster_size=32k' },
    other: 'extended_l2=on,cluster_size=16k',
    request: { backing: 'other.qcow2', backingFormat: 'qcow2' },
  },
  {
    name: 'an image without a backing file, with snapshots',
    layers: { 'top.qcow2': SMALL },
    other: SMALL,
    more: (images) => images.qemuImg('snapshot', '-c', 's', 'top.qcow2'),
    request: { backing: 'other.qcow2', backingFormat: 'qcow2', force: true },
  },
  {
    name: 'an external data file',
    layers: { 'base.qcow2': SMALL, 'top.qcow2': `${SMALL},data_file=top.data` },
    other: SMALL,
    request: { backing: 'other.qcow2', backingFormat: 'qcow2' },
  },
  {
    name: 'with bitmaps',
    layers: { ...THREE, 'top.qcow2': 'cluster_size=1k' },
    more: (images) => images.qemuImg('bitmap', '--add', '-g', '1k', 'top.qcow2', 'b'),
    request: { backing: 'base.qcow2', backingFormat: 'qcow2' },
  },
  {
    name: 'a dirty image',
    layers: { ...THREE, 'top.qcow2': `${SMALL},lazy_refcounts=on` },
    more: (images) =>
      images.io('top.qcow2', 'write -P 8 0 9k', 'flush', 'abort').catch(() => undefined),
    request: { backing: 'base.qcow2', backingFormat: 'qcow2' },
  },
];

async function build({ layers, other, more }: Case): Promise<Images> {
  const images = new Images();
  await stack(images, layers);
  if (other !== undefined) {
    await images.create('other.qcow2', '150k', { options: other });
    await images.io('other.qcow2', 'write -P 1 3k 27k', 'write -P 77 60k 80k', 'write -z 40k 9k');
  }
  await more?.(images);
  return images;
}

async function backingOf(host: MemoryHost): Promise<string> {
  await using chain = await openChain('top.qcow2', { host });
  return chain.layers[1]?.storedName ?? '';
}

test.each(CASES)('$name', { timeout: 120_000 }, async (each) => {
  const files = load(await build(each));
  const before = await crashedView(hostWith(files, CODECS), 'top.qcow2');
  const oldName = await backingOf(hostWith(files, CODECS));
  const host = new CrashHost(files, CODECS);
  const { copiedBytes } = await rebase('top.qcow2', { ...each.request, host });
  expect(copiedBytes).toBeGreaterThan(each.name.includes('without') ? -1 : 0);

  const keeps = async (state: MemoryHost, when: string) => {
    const same = Buffer.from(before).equals(await crashedView(state, 'top.qcow2'));
    expect(same, `the view, ${when}`).toBe(true);
  };
  const random = randomFrom(1);
  const perEvent = 3;
  const every = Math.max(1, Math.floor((host.length * perEvent) / STATES));
  let seen = 0;
  for (const { at, files: left } of host.states(perEvent, random)) {
    // The last writes are those that switch the header.
    if (at < host.length - 12 && random(every) > 0) continue;
    const state = hostWith(left, CODECS);
    await keeps(state, `after event ${at}`);
    await checkAll(state, left);
    expect([oldName, each.request.backing]).toContain(await backingOf(state));
    if (seen++ % Math.ceil(STATES / RERUNS) > 0) continue;
    await rebase('top.qcow2', { ...each.request, host: state });
    await keeps(state, `after event ${at} and another run`);
    expect(await backingOf(state)).toBe(each.request.backing);
    const now = [...left.keys()].map((name) => [name, state.fileBytes(name)] as const);
    await checkAll(state, new Map(now.flatMap(([name, bytes]) => (bytes ? [[name, bytes]] : []))));
  }
  expect(seen).toBeGreaterThan(STATES / 5);
});
