// check -r all, resize --shrink and rebase, stopped at any instant: the guest's data is what it was,
// and the same command completes the work.

import { closeSync, openSync, readSync, truncateSync, writeSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { changesOf, inLanes, instants, stopAfter } from '../support/kill.ts';
import { checkClean, compare, infoOf, mustIn } from '../support/qemu.ts';
import { checkNotCorrupt } from '../support/refusals.ts';
import { tempDir } from '../support/temp.ts';

// Many processes: on a busy machine they take long.
vi.setConfig({ testTimeout: 240_000 });

const MIB = 1024 * 1024;

/** A copy that keeps holes. */
async function copyOf({ dir }: Images): Promise<Images> {
  const copy = tempDir();
  await mustIn(dir, 'cp', '-r', '--sparse=always', '.', copy);
  return new Images(copy);
}

async function succeeds({ dir }: Images, args: readonly string[]): Promise<void> {
  const { code, stderr } = await qimg(args, dir);
  expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
}

/** All of it stopped at so many instants: `look` at what is there, and again once it was rerun. */
async function killed(
  images: Images,
  args: readonly string[],
  count: number,
  look: (images: Images, isComplete: boolean) => Promise<void>,
): Promise<void> {
  const whole = await copyOf(images);
  const total = await changesOf(whole.dir, () => succeeds(whole, args));
  let kills = 0;
  await inLanes(instants(4711, count), async (share) => {
    const now = await copyOf(images);
    const { signal } = await stopAfter(now.dir, args, 1 + Math.floor(share * total));
    if (signal === 'SIGKILL') kills++;
    await look(now, false);
    await succeeds(now, args);
    await look(now, true);
  });
  expect(kills, 'the instants lie within the work').toBeGreaterThan(0);
}

/** Clusters of 512 bytes, mapped as a whole: a quarter MiB of L2 tables. */
async function mapped(name: string): Promise<Images> {
  const images = new Images();
  await images.create(name, '16M', { options: 'cluster_size=512,preallocation=metadata' });
  await images.io(name, 'write -P 1 0 300k', 'write -P 2 7M 300k', 'write -P 3 15M 300k');
  await images.qemuImg('convert', '-O', 'raw', name, 'before.raw');
  return images;
}

/** No entry of the refcount table is left. */
function loseRefcounts(file: string): void {
  const fd = openSync(file, 'r+');
  try {
    const header = Buffer.alloc(64);
    readSync(fd, header, 0, header.length, 0);
    const bytes = header.readUInt32BE(56) * 512;
    writeSync(fd, Buffer.alloc(bytes), 0, bytes, Number(header.readBigUInt64BE(48)));
  } finally {
    closeSync(fd);
  }
}

test('check -r all, while refcounts are rebuilt', async () => {
  const images = await mapped('a.qcow2');
  loseRefcounts(images.path('a.qcow2'));
  await killed(images, ['check', '-q', '-r', 'all', 'a.qcow2'], 20, async (now, isComplete) => {
    if (isComplete) await checkClean(now.path('a.qcow2'));
    await compare(now.path('a.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
  });
});

test('resize --shrink', async () => {
  const images = await mapped('a.qcow2');
  await images.qemuImg('convert', '-O', 'raw', 'a.qcow2', 'small.raw');
  truncateSync(images.path('small.raw'), 7 * MIB + 1024);
  const args = ['resize', '--shrink', 'a.qcow2', String(7 * MIB + 1024)];
  await killed(images, args, 10, async (now, isComplete) => {
    await checkNotCorrupt(now.path('a.qcow2'));
    const isOld = !isComplete && (await now.size('a.qcow2')) === 16 * MIB;
    const same = images.path(isOld ? 'before.raw' : 'small.raw');
    await compare(now.path('a.qcow2'), 'qcow2', same, 'raw');
  });
});

/** A disk over one backing file that is to get another. */
async function overlay(): Promise<Images> {
  const images = new Images();
  for (const [i, name] of ['old.qcow2', 'new.qcow2'].entries()) {
    await images.create(name, '32M');
    const writes = Array.from({ length: 60 }, (_, k) => `write -P ${1 + i + k} ${k * 500}k 300k`);
    await images.io(name, ...writes);
  }
  const options = 'cluster_size=4k';
  await images.create('top.qcow2', '32M', { backing: 'old.qcow2', options });
  await images.io('top.qcow2', 'write -P 200 100k 400k', 'write -P 201 9M 1M');
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  return images;
}

const REBASE = ['rebase', '-b', 'new.qcow2', '-F', 'qcow2', 'top.qcow2'];

async function expectSame(now: Images, isComplete: boolean): Promise<void> {
  await checkNotCorrupt(now.path('top.qcow2'));
  await compare(now.path('top.qcow2'), 'qcow2', now.path('before.raw'), 'raw');
  if (!isComplete) return;
  expect((await infoOf(now.path('top.qcow2')))['backing-filename']).toBe('new.qcow2');
}

test('rebase', async () => {
  await killed(await overlay(), REBASE, 10, expectSame);
});

test('rebase, told to stop by SIGINT: exit 130, a rerun completes', async () => {
  const images = await overlay();
  const { code, stderr } = await stopAfter(images.dir, REBASE, 1, 'SIGINT');
  expect(stderr).toBe(
    "qimg-ts: Stopped by SIGINT. 'top.qcow2' shows what it did, over its old backing file; " +
      'running the same command again continues.\n',
  );
  expect(code).toBe(130);
  expect((await infoOf(images.path('top.qcow2')))['backing-filename']).toBe('old.qcow2');
  await expectSame(images, false);
  await checkClean(images.path('top.qcow2'));
  await succeeds(images, REBASE);
  await expectSame(images, true);
});
