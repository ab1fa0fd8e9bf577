// The real command, killed at random instants (SIGKILL can't be caught): every image is sound, the view
// through the top is what it was, and the same command completes the work. QEMU's tools judge.

import { existsSync, watch } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Images } from './images.ts';
import { limited, start } from './limited.ts';
import { compare, infoOf } from './qemu.ts';
import { checkAloneNotCorrupt, checkNotCorrupt, committed } from './refusals.ts';
import { makeTemp } from './temp.ts';

const NAMES = ['base.qcow2', 'sn1.qcow2', 'sn2.qcow2', 'sn3.qcow2'];
const SIZE = 6;
/** How often each form is killed. */
const KILLS = 12;

/** Interleaved layers with clusters of 4 KiB: many small copies, many tables. */
async function build(images: Images): Promise<void> {
  for (const [i, name] of NAMES.entries()) {
    const backing = NAMES[i - 1];
    await images.create(name, `${SIZE}M`, {
      options: 'cluster_size=4k,refcount_bits=8',
      ...(backing !== undefined && { backing }),
    });
    const writes = Array.from({ length: 25 }, (_, k) => {
      const at = ((k * 7 + i * 3) % 25) * 230 + i * 13;
      return k % 9 === 8 ? `write -z ${at}k 100k` : `write -P ${1 + i * 50 + k} ${at}k 130k`;
    });
    await images.io(name, ...writes);
  }
  for (const name of ['sn2.qcow2', 'sn3.qcow2']) {
    await images.qemuImg('bitmap', '--add', name, 'b');
  }
  await images.qemuImg('convert', '-O', 'raw', 'sn3.qcow2', 'before.raw');
}

interface Form {
  readonly words: readonly string[];
  readonly base: string;
}

const FORMS = {
  default: { words: ['sn3.qcow2'], base: 'sn2.qcow2' },
  '-d': { words: ['-d', 'sn3.qcow2'], base: 'sn2.qcow2' },
  '--compress': { words: ['--compress', 'sn3.qcow2'], base: 'sn2.qcow2' },
  '--bitmaps': { words: ['--bitmaps', 'sn3.qcow2'], base: 'sn2.qcow2' },
  '-b': { words: ['-b', 'base.qcow2', 'sn3.qcow2'], base: 'base.qcow2' },
  '-b --relink': {
    words: ['-b', 'sn1.qcow2', '--relink', 'sn3.qcow2'],
    base: 'sn1.qcow2',
  },
  '--relink --delete': {
    words: ['-b', 'base.qcow2', '--relink', '--delete', 'sn3.qcow2'],
    base: 'base.qcow2',
  },
  '--top --delete': {
    words: ['--top', 'sn2.qcow2', '-b', 'base.qcow2', '--delete', 'sn3.qcow2'],
    base: 'base.qcow2',
  },
  '--top': { words: ['--top', 'sn2.qcow2', '-b', 'base.qcow2', 'sn3.qcow2'], base: 'base.qcow2' },
} satisfies Readonly<Record<string, Form>>;

/** Seeded shares of the work. */
export function instants(seed: number, count: number): readonly number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  });
}

/** Counts what the file system tells of a directory: some thing after each write. */
function countChanges(dir: string, heard: (count: number) => void): () => void {
  let count = 0;
  const watcher = watch(dir, () => heard(++count));
  return () => watcher.close();
}

/** How many changes the whole command makes here. */
export async function changesOf(images: Images, words: readonly string[]): Promise<number> {
  let total = 0;
  const stop = countChanges(images.dir, (count) => {
    total = count;
  });
  await committed(images.dir, ...words);
  stop();
  return total;
}

/** Runs the command and kills it as soon as that many changes were seen. */
export async function killAfter(
  images: Images,
  words: readonly string[],
  changes: number,
): Promise<NodeJS.Signals | null> {
  const running = start(['commit', ...words], images.dir);
  const stop = countChanges(images.dir, (count) => {
    if (count >= changes) running.child.kill('SIGKILL');
  });
  const { signal } = await running.ended;
  stop();
  return signal;
}

/** Two at a time: most of the work is done by processes of their own. */
export async function inLanes<T>(
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = [...items];
  const lane = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await work(item);
  };
  await Promise.all([lane(), lane()]);
}

/** One test for each of these forms. */
export function killedTests(forms: readonly (keyof typeof FORMS)[]): void {
  const template = makeTemp();
  beforeAll(() => build(new Images(template.dir)));
  afterAll(template.cleanup);
  const chain = (): Images => new Images(template.dir).copy();

  test.each(forms)(`%s, killed ${KILLS} times`, { timeout: 300_000 }, async (form) => {
    const { words, base } = FORMS[form];
    const total = await changesOf(chain(), words);
    let killed = 0;
    await inLanes(instants(4711, KILLS), async (share) => {
      let changes = 1 + Math.floor(share * total);
      let images = chain();
      // Over before it was hit: earlier, then.
      while ((await killAfter(images, words, changes)) !== 'SIGKILL' && changes > 1) {
        changes = Math.floor(changes * 0.7);
        images = chain();
      }
      if (changes > 1) killed++;
      await expectSound(images, `${form} killed after ${changes} of ${total} changes`);
      await rerun(images, words);
      // What a killed writer had taken and not used yet is leaked; a rerun does not look for it.
      for (const name of [base, 'sn3.qcow2']) await checkNotCorrupt(images.path(name));
      const raw = images.path('before.raw');
      await compare(images.path('sn3.qcow2'), 'qcow2', raw, 'raw');
      if (!form.startsWith('--top')) await compare(images.path(base), 'qcow2', raw, 'raw');
    });
    expect(killed, 'the instants lie within the commit').toBeGreaterThan(KILLS / 3);
  });
}

async function expectSound(images: Images, where: string): Promise<void> {
  try {
    for (const name of NAMES) {
      // While layers are removed, the deepest first, the next one names a file that is gone.
      if (existsSync(images.path(name))) await checkAloneNotCorrupt(images.path(name));
    }
    await compare(images.path('sn3.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
  } catch (error) {
    throw new Error(where, { cause: error });
  }
}

/** Inner layers that are merged, unlinked and removed are found no more: all was done. */
async function rerun(images: Images, words: readonly string[]): Promise<void> {
  const { code, stderr } = await limited(['commit', ...words], images.dir);
  if (code === 0) return;
  expect(stderr).toMatch(/Did not find 'sn2.qcow2'/);
  const left = ['sn1.qcow2', 'sn2.qcow2'].filter((name) => existsSync(images.path(name)));
  if (words.includes('--delete')) expect(left).toEqual([]);
  const { 'backing-filename': backing } = await infoOf(images.path('sn3.qcow2'));
  expect(backing).toBe('base.qcow2');
}
