// Killed at any instant (SIGKILL can't be caught): every image is sound, the view through the top
// is what it was, and the same command completes the work.

import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { changesOf, inLanes, instants, stopAfter } from '../support/kill.ts';
import { checkClean, compare, infoOf } from '../support/qemu.ts';
import { checkNotCorrupt, committed } from '../support/refusals.ts';
import { makeTemp } from '../support/temp.ts';

const NAMES = ['base.qcow2', 'sn1.qcow2', 'sn2.qcow2', 'sn3.qcow2'];
const SIZE = 12;

/** Interleaved layers with clusters of 4 KiB: many small copies, many tables. */
async function build(images: Images): Promise<void> {
  for (const [i, name] of NAMES.entries()) {
    const backing = NAMES[i - 1];
    await images.create(name, `${SIZE}M`, {
      options: 'cluster_size=4k,refcount_bits=8',
      ...(backing !== undefined && { backing }),
    });
    const writes = Array.from({ length: 50 }, (_, k) => {
      const at = ((k * 7 + i * 3) % 50) * 230 + i * 13;
      return k % 9 === 8 ? `write -z ${at}k 100k` : `write -P ${1 + i * 50 + k} ${at}k 130k`;
    });
    await images.io(name, ...writes);
  }
  await images.qemuImg('convert', '-O', 'raw', 'sn3.qcow2', 'before.raw');
}

const template = makeTemp();
beforeAll(() => build(new Images(template.dir)));
afterAll(template.cleanup);
const chain = (): Images => new Images(template.dir).copy();

const FORMS: Readonly<Record<string, { words: readonly string[]; base: string }>> = {
  default: { words: ['sn3.qcow2'], base: 'sn2.qcow2' },
  '-b': { words: ['-b', 'base.qcow2', 'sn3.qcow2'], base: 'base.qcow2' },
  '--relink --delete': {
    words: ['-b', 'base.qcow2', '--relink', '--delete', 'sn3.qcow2'],
    base: 'base.qcow2',
  },
  '--top': { words: ['--top', 'sn2.qcow2', '-b', 'base.qcow2', 'sn3.qcow2'], base: 'base.qcow2' },
};

const commitChanges = ({ dir }: Images, words: readonly string[]): Promise<number> =>
  changesOf(dir, () => committed(dir, ...words));

const CASES = Object.keys(FORMS).map((form, i) => [form, 4711 + i] as const);

test.each(CASES)('%s, killed at random instants (seed %i)', async (form, seed) => {
  const { words, base } = FORMS[form] ?? { words: [], base: '' };
  const total = await commitChanges(chain(), words);
  let killed = 0;
  await inLanes(instants(seed, 6), async (share) => {
    const images = chain();
    const changes = 1 + Math.floor(share * total);
    const { signal } = await stopAfter(images.dir, ['commit', ...words], changes);
    if (signal === 'SIGKILL') killed++;
    await expectSound(images, `${form} killed after ${changes} of ${total} changes`);
    await rerun(images, form, words);
    // What a killed writer had taken and not used yet is leaked; a rerun does not look for it.
    for (const name of [base, 'sn3.qcow2']) await checkNotCorrupt(images.path(name));
    const raw = images.path('before.raw');
    await compare(images.path('sn3.qcow2'), 'qcow2', raw, 'raw');
    if (form !== '--top') await compare(images.path(base), 'qcow2', raw, 'raw');
  });
  expect(killed, 'the instants lie within the commit').toBeGreaterThan(0);
});

async function expectSound(images: Images, where: string): Promise<void> {
  try {
    for (const name of NAMES) {
      if (existsSync(images.path(name))) await checkNotCorrupt(images.path(name));
    }
    await compare(images.path('sn3.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
  } catch (error) {
    throw new Error(where, { cause: error });
  }
}

/** Inner layers that are merged and unlinked already are found no more: all was done. */
async function rerun(images: Images, form: string, words: readonly string[]): Promise<void> {
  if (form === '--top') {
    const { 'backing-filename': backing } = await infoOf(images.path('sn3.qcow2'));
    if (backing === 'base.qcow2') return;
  }
  await committed(images.dir, ...words);
}

test.each([
  ['4k clusters, tables where they were created', 'cluster_size=4k', []],
  ['512-byte clusters, tables moved while it grew', 'cluster_size=512', ['-q']],
] as const)('killed while the top is emptied: %s', async (_what, options, flags) => {
  const images = new Images();
  await images.create('base.qcow2', '16M');
  await images.create('top.qcow2', '16M', { backing: 'base.qcow2', options });
  await images.io('top.qcow2', 'write -P 3 0 2M', 'write -P 4 8M 1M');
  // Base has everything already, so that what is left to do is mostly the emptying.
  await images.qemuImg('commit', '-q', '-d', 'top.qcow2');
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  const total = await commitChanges(images.copy(), ['top.qcow2']);
  await inLanes(instants(815, 3), async (share) => {
    const now = images.copy();
    const args = ['commit', ...flags, 'top.qcow2'];
    await stopAfter(now.dir, args, 1 + Math.floor(share * total));
    for (const name of ['base.qcow2', 'top.qcow2']) {
      await checkNotCorrupt(now.path(name));
      await compare(now.path(name), 'qcow2', images.path('before.raw'), 'raw');
    }
    await committed(now.dir, 'top.qcow2');
    await checkClean(now.path('base.qcow2'));
    await checkNotCorrupt(now.path('top.qcow2'));
  });
});
