// A commit on a disk with less room than it copies: refused as a rule; with --reclaim it takes what it
// frees. What stops it costs nothing.

import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { nodeHost } from '../../src/io/node-host.ts';
import { Images } from '../support/images.ts';
import { limited, start } from '../support/limited.ts';
import { remount, smallDisk, smallExt4, whyNoLoops, whyNoMounts } from '../support/mounts.ts';
import { checkClean, compare } from '../support/qemu.ts';
import { checkNotCorrupt, committed, expectRefused } from '../support/refusals.ts';

const MIB = 1024 * 1024;
const reasons = { tmpfs: whyNoMounts(), ext4: whyNoMounts() ?? whyNoLoops() };
const named = (name: string, reason: string | undefined) =>
  reason === undefined ? name : `${name} (${reason})`;
const onTmpfs = reasons.tmpfs === undefined ? test : test.skip;
const onExt4 = reasons.ext4 === undefined ? test : test.skip;

interface Situation {
  readonly images: Images;
  /** Fails unless these show what the top showed in the beginning, and are sound. */
  expectView(...names: readonly string[]): Promise<void>;
}

/** Layers over a base, 60 MiB of data in all, where less than half of that is free. */
async function situation(
  disk: string,
  names: readonly string[] = ['base.qcow2', 'top.qcow2'],
): Promise<Situation> {
  const images = new Images(disk);
  for (const [i, name] of names.entries()) {
    const backing = names[i - 1];
    const below = backing === undefined ? { options: 'cluster_size=16k' } : { backing };
    await images.create(name, '200M', name.endsWith('.raw') ? {} : below);
    if (backing === undefined) continue;
    const each = Math.floor(60 / (names.length - 1));
    await images.io(name, `write -P ${i} ${2 + 9 * i}M ${each}M`, `write -z ${100 + i}M 7M`);
  }
  const before = new Images();
  const raw = before.path('before.raw');
  await images.qemuImg('convert', '-O', 'raw', names.at(-1) ?? '', raw);
  const expectView = async (...shown: readonly string[]) => {
    for (const name of shown) {
      const format = name.endsWith('.raw') ? 'raw' : 'qcow2';
      await compare(images.path(name), format, raw, 'raw');
      if (format === 'qcow2') await checkNotCorrupt(images.path(name));
    }
  };
  return { images, expectView };
}

const spaceOf = (file: string) => statSync(file).blocks * 512;
const TOO_LITTLE = /needs \d+ bytes more in .*, and \d+ are free/;

onTmpfs.each(['base.qcow2', 'base.raw'])(
  named('60 MiB into %s with 20 MiB free', reasons.tmpfs),
  async (base) => {
    const disk = smallDisk(80 * MIB);
    const { images, expectView } = await situation(disk, [base, 'top.qcow2']);
    const { stderr } = await expectRefused(disk, ['commit', 'top.qcow2'], TOO_LITTLE);
    expect(stderr).toContain('With --reclaim it takes less at a time.');
    const plan = await limited(['commit', '--reclaim', '--dry-run', 'top.qcow2'], disk);
    expect(plan.stdout).toMatch(/^space needed at most: 60\S* MiB, at a time \d(\.\d+)? MiB$/m);
    expect(plan.stdout).toMatch(/^give back space as it goes: top.qcow2$/m);
    await committed(disk, '--reclaim', 'top.qcow2');
    await expectView('top.qcow2', base);
    await checkClean(images.path('top.qcow2'));
    expect(spaceOf(images.path('top.qcow2'))).toBeLessThan(MIB);
  },
);

onTmpfs(
  named('through layers between, which let go of their data too', reasons.tmpfs),
  async () => {
    const disk = smallDisk(80 * MIB);
    const names = ['base.qcow2', 'sn1.qcow2', 'sn2.qcow2', 'top.qcow2'];
    const { images, expectView } = await situation(disk, names);
    await expectRefused(disk, ['commit', '-b', 'base.qcow2', 'top.qcow2'], TOO_LITTLE);
    await committed(disk, '-b', 'base.qcow2', '--reclaim', 'top.qcow2');
    await expectView(...names);
    for (const name of names.slice(1)) {
      await checkClean(images.path(name));
      expect(spaceOf(images.path(name)), name).toBeLessThan(MIB);
    }
  },
);

onExt4(
  named(
    'killed, stopped by a signal, run again with or without: it goes on where it was',
    reasons.ext4,
  ),
  async () => {
    const disk = smallExt4(90 * MIB);
    const { images, expectView } = await situation(disk);
    await expectRefused(disk, ['commit', 'top.qcow2'], TOO_LITTLE);
    const before = spaceOf(images.path('top.qcow2'));
    const args = ['commit', '--reclaim', '-p', '-r', '25M', 'top.qcow2'];
    for (const signal of ['SIGKILL', 'SIGINT'] as const) {
      const { child, ended } = start(args, disk);
      const percent = signal === 'SIGKILL' ? 25 : 50;
      child.stdout?.on('data', (chunk: Buffer) => {
        const last = /\((\d+)\.\d+\/100%\)\s*$/.exec(chunk.toString());
        if (Number(last?.[1]) > percent) child.kill(signal);
      });
      const { code, stderr } = await ended;
      expect(code).toBe(signal === 'SIGKILL' ? null : 130);
      if (signal === 'SIGINT') expect(stderr).toContain('running the same command again continues');
      await expectView('top.qcow2');
      await checkNotCorrupt(images.path('base.qcow2'));
    }
    // What was let go of is room for the rest.
    expect(spaceOf(images.path('top.qcow2'))).toBeLessThan(before - 20 * MIB);
    const roomy = images.copy();
    await committed(roomy.dir, 'top.qcow2');
    await committed(disk, '--reclaim', 'top.qcow2');
    await expectView('top.qcow2', 'base.qcow2');
    await compare(roomy.path('base.qcow2'), 'qcow2', images.path('base.qcow2'), 'qcow2');
  },
);

onTmpfs(
  named('without the system calls: refused, as nothing is freed', reasons.tmpfs),
  async () => {
    const disk = smallDisk(80 * MIB);
    const { images, expectView } = await situation(disk);
    const env = { QIMG_TS_NO_SYSCALLS: '1' };
    const { code, stderr } = await limited(['commit', '--reclaim', 'top.qcow2'], disk, env);
    expect(code).toBe(1);
    expect(stderr).toMatch(TOO_LITTLE);
    expect(stderr).toContain('parts of their files can not be given back here');
    const roomy = new Images(disk).copy();
    const done = await limited(['commit', '--reclaim', 'top.qcow2'], roomy.dir, env);
    expect(done.code, done.stderr).toBe(0);
    await compare(roomy.path('top.qcow2'), 'qcow2', images.path('top.qcow2'), 'qcow2');
    await checkClean(roomy.path('base.qcow2'));
    await expectView('top.qcow2');
  },
);

onTmpfs(named('from another file system: refused, it does not help', reasons.tmpfs), async () => {
  const disk = smallDisk(8 * MIB);
  const base = new Images(disk);
  await base.create('base.qcow2', '40M');
  const images = new Images();
  await images.create('top.qcow2', '40M', { backing: join(disk, 'base.qcow2') });
  await images.io('top.qcow2', 'write -P 1 3M 20M');
  const args = ['commit', '--reclaim', 'top.qcow2'];
  const { stderr } = await expectRefused(images.dir, args, TOO_LITTLE);
  expect(stderr).toContain('the layers above lie on another file system');
});

async function peakOf(disk: string): Promise<number> {
  const args = ['commit', '--reclaim', '--dry-run', '--output=json', 'top.qcow2'];
  const { stdout } = await limited(args, disk);
  const plan = JSON.parse(stdout) as { 'peak-bytes': number; 'growth-bytes': number };
  expect(plan['peak-bytes']).toBeLessThan(plan['growth-bytes'] * 0.8);
  return plan['peak-bytes'];
}

onTmpfs.each([
  ['cluster_size=64k', 'cluster_size=64k'],
  ['cluster_size=4k', 'cluster_size=64k'],
  ['cluster_size=256k', 'cluster_size=1k'],
  ['cluster_size=64k', 'data_file=top.data'],
  ['cluster_size=128k,extended_l2=on', 'cluster_size=64k,extended_l2=on'],
])(
  named('%s, top %s: the space that the plan asks for is enough', reasons.tmpfs),
  async (...of) => {
    const disk = smallDisk(64 * MIB);
    const images = new Images(disk);
    await images.create('base.qcow2', '40M', { options: of[0] });
    await images.create('top.qcow2', '40M', { options: of[1], backing: 'base.qcow2' });
    const writes = Array.from({ length: 60 }, (_, i) => {
      const at = ((i * 37) % 60) * 600 + (i % 3) * 5;
      return i % 7 === 6 ? `write -z ${at}k 90k` : `write -P ${i + 1} ${at}k ${i % 2 ? 300 : 64}k`;
    });
    await images.io('top.qcow2', ...writes);
    if (!of[1].includes('data_file')) {
      await images.qemuImg('snapshot', '-c', 's', 'top.qcow2');
      await images.io('top.qcow2', 'write -P 99 20M 9M');
    }
    const used =
      Number(execFileSync('du', ['-sk', disk], { encoding: 'utf8' }).split('\t')[0]) * 1024;
    // Windows are as small as they get.
    remount(disk, `size=${used + 4 * MIB}`);
    const before = new Images();
    await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', before.path('before.raw'));
    remount(disk, `size=${used + (await peakOf(disk)) + MIB / 16}`);
    await committed(disk, '--reclaim', 'top.qcow2');
    for (const name of ['base.qcow2', 'top.qcow2']) {
      await checkClean(images.path(name));
      await compare(images.path(name), 'qcow2', before.path('before.raw'), 'raw');
    }
  },
);

// What speaks against it

async function threeLayers(): Promise<Images> {
  const images = new Images();
  await images.create('base.qcow2', '1M');
  await images.create('mid.qcow2', '1M', { backing: 'base.qcow2' });
  await images.create('top.qcow2', '1M', { backing: 'mid.qcow2' });
  await images.io('mid.qcow2', 'write -P 1 64k 256k');
  await images.io('top.qcow2', 'write -P 2 128k 256k');
  return images;
}

test('with -d: it makes no sense', async () => {
  const { dir } = await threeLayers();
  await expectRefused(dir, ['commit', '--reclaim', '-d', 'top.qcow2'], 'goes without --drop');
});

test('another image on a layer between would lose its data: not even with --force', async () => {
  const images = await threeLayers();
  await images.create('other.qcow2', '1M', { backing: 'mid.qcow2' });
  const args = ['commit', '--reclaim', '--force', '-b', 'base.qcow2', 'top.qcow2'];
  const words = "Files that --reclaim would empty are needed by 'other.qcow2'";
  await expectRefused(images.dir, args, words);
  await committed(images.dir, ...args.slice(2));
});

test('a layer between that somebody reads: refused before anything is written', async () => {
  const images = await threeLayers();
  const mid = await nodeHost.openStorage(images.path('mid.qcow2'), { writable: false });
  await mid.lock(['consistent read'], ['consistent read']);
  const args = ['commit', '--reclaim', '-b', 'base.qcow2', 'top.qcow2'];
  await expectRefused(images.dir, args, /Failed to get shared "consistent read" lock/);
  await mid.close();
  await committed(images.dir, ...args.slice(1));
});
