// Base on a file system, or in a device, with too little room: refused before the first write, or,
// where that is not wanted, stopped with nothing lost.

import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { remount, smallDisk, whyNoMounts } from '../support/mounts.ts';
import { checkClean, compare, run } from '../support/qemu.ts';
import {
  checkNotCorrupt,
  committed,
  contentOf,
  expectClearError,
  expectRefused,
} from '../support/refusals.ts';

const reason = whyNoMounts();
const full = reason === undefined ? test : test.skip;
const named = (name: string) => (reason === undefined ? name : `${name} (${reason})`);

const MIB = 1024 * 1024;

interface Situation {
  readonly disk: string;
  readonly base: string;
  readonly format: string;
  /** Holds the top, and what the top showed in the beginning. */
  readonly images: Images;
  /** Fails unless the top still shows what it showed. */
  expectSameView(): Promise<void>;
}

/** A base of 1 MiB on a disk of 4 MiB, and a top with 8 MiB more than that elsewhere. */
async function situation(name = 'base.qcow2', options?: string): Promise<Situation> {
  const disk = smallDisk(4 * MIB);
  const below = new Images(disk);
  await below.create(name, '16M', options === undefined ? {} : { options });
  await below.io(name, 'write -P 1 0 1M');
  const base = join(disk, name);
  const images = new Images();
  await images.create('top.qcow2', '16M', { backing: base });
  await images.io('top.qcow2', 'write -P 2 512k 8M', 'write -z 12M 1M');
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  const expectSameView = () =>
    compare(images.path('top.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
  return { disk, base, format: name.endsWith('.raw') ? 'raw' : 'qcow2', images, expectSameView };
}

async function expectStoppedByFullDisk(
  { base, format, expectSameView }: Situation,
  outcome: { readonly code: number; readonly stdout: string; readonly stderr: string },
): Promise<void> {
  expect(outcome.code).toBe(1);
  expect(outcome.stderr).toMatch(/^qimg-ts: Block job failed: No space left on device\n/);
  expect(outcome.stderr).toContain(base);
  expectClearError(outcome);
  if (format === 'qcow2') await checkNotCorrupt(base);
  await expectSameView();
}

full.each([
  ['base.qcow2', undefined],
  ['base.qcow2', 'compat=0.10,cluster_size=4k'],
  ['base.raw', undefined],
] as const)(named('%s (%s): refused up front with both numbers'), async (name, options) => {
  const { disk, base, images } = await situation(name, options);
  const before = contentOf(disk);
  for (const form of [[], ['-d'], ['-b', base]]) {
    const words = /needs (\d+) bytes more in '.*', and (\d+) are free/;
    const args = ['commit', ...form, 'top.qcow2'];
    const { stderr } = await expectRefused(images.dir, args, words);
    const [, needed, free] = words.exec(stderr) ?? [];
    expect(Number(needed)).toBeGreaterThan(7 * MIB);
    expect(Number(free)).toBeLessThan(4 * MIB);
    expect(Number(free)).toBeGreaterThan(2 * MIB);
    expect(stderr).toContain('--force');
  }
  expect(contentOf(disk)).toEqual(before);
});

full.each([
  ['base.qcow2', undefined],
  ['base.qcow2', 'compat=0.10,cluster_size=4k'],
  ['base.qcow2', 'cluster_size=512,refcount_bits=1'],
  ['base.raw', undefined],
] as const)(
  named('%s (%s) with --force: stopped, nothing lost; with room the same command completes'),
  async (name, options) => {
    const now = await situation(name, options);
    const args = ['commit', '--force', 'top.qcow2'];
    await expectStoppedByFullDisk(now, await limited(args, now.images.dir));
    await expectStoppedByFullDisk(now, await limited(args, now.images.dir));
    remount(now.disk, `size=${16 * MIB}`);
    await committed(now.images.dir, ...args.slice(1));
    await now.expectSameView();
    await compare(now.base, now.format, now.images.path('before.raw'), 'raw');
    // What was taken for a copy that failed may be leaked; nobody points to it.
    if (now.format === 'qcow2') await checkNotCorrupt(now.base);
    await checkClean(now.images.path('top.qcow2'));
  },
);

full(named('without the system calls: stopped in the same way'), async () => {
  const now = await situation();
  const env = { QIMG_TS_NO_SYSCALLS: '1' };
  const outcome = await limited(['commit', '--force', 'top.qcow2'], now.images.dir, env);
  const stderr = outcome.stderr.replace(/^qimg-ts: warning: .*\n/, '');
  await expectStoppedByFullDisk(now, { ...outcome, stderr });
});

full(named('with --relink and --delete: neither is done'), async () => {
  const now = await situation();
  await now.images.qemuImg('rebase', '-u', '-b', now.base, '-F', 'qcow2', 'top.qcow2');
  await now.images.create('top2.qcow2', '16M', { backing: 'top.qcow2' });
  const form = ['-b', now.base, '--relink', '--delete', '--force'];
  const before = contentOf(now.images.dir);
  const outcome = await limited(['commit', ...form, 'top2.qcow2'], now.images.dir);
  await expectStoppedByFullDisk(now, outcome);
  expect(contentOf(now.images.dir)).toEqual(before);
});

full(named('as qemu-img: no refusal up front, the words of QEMU'), async () => {
  const now = await situation();
  const link = asQemu();
  const { code, stdout, stderr } = await link.run(['commit', 'top.qcow2'], now.images.dir);
  link.remove();
  const theirs = await run('qemu-img', ['commit', 'top.qcow2'], { cwd: now.images.dir });
  expect({ code, stdout, stderr }).toEqual(theirs);
  expect(stderr).toBe('qemu-img: Block job failed: No space left on device\n');
  await checkNotCorrupt(now.base);
  await now.expectSameView();
});

full(named('what fits is not refused'), async () => {
  const disk = smallDisk(6 * MIB);
  const images = new Images(disk);
  await images.create('base.qcow2', '16M');
  await images.create('top.qcow2', '16M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 2 512k 2M');
  await committed(disk, 'top.qcow2');
  await checkClean(join(disk, 'base.qcow2'));
});

full(named('a dry run tells of it and exits 1'), async () => {
  const { images } = await situation();
  const args = ['commit', '--dry-run', '--output=json', 'top.qcow2'];
  const { code, stdout } = await limited(args, images.dir);
  expect(code).toBe(1);
  const { refusals } = JSON.parse(stdout) as { readonly refusals: readonly string[] };
  expect(refusals).toEqual([expect.stringMatching(/needs \d+ bytes more/)]);
});

full(
  named('top and base on one disk that fills up: nothing lost, with room it completes'),
  async () => {
    const disk = smallDisk(10 * MIB);
    const images = new Images(disk);
    const path = (name: string) => join(disk, name);
    await images.create('base.qcow2', '16M', { options: 'cluster_size=4k' });
    await images.create('top.qcow2', '16M', { backing: 'base.qcow2', options: 'cluster_size=4k' });
    await images.io('top.qcow2', 'write -P 2 512k 3M');
    const before = new Images();
    const raw = before.path('before.raw');
    await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', raw);
    writeFileSync(path('filler'), Buffer.alloc(5 * MIB, 1));
    const outcome = await limited(['commit', '--force', 'top.qcow2'], disk);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/^qimg-ts: Block job failed: No space left on device\n/);
    for (const name of ['base.qcow2', 'top.qcow2']) await checkNotCorrupt(path(name));
    await compare(path('top.qcow2'), 'qcow2', raw, 'raw');
    truncateSync(path('filler'), 0);
    await committed(disk, 'top.qcow2');
    for (const name of ['base.qcow2', 'top.qcow2']) {
      await checkNotCorrupt(path(name));
      await compare(path(name), 'qcow2', raw, 'raw');
    }
  },
);
