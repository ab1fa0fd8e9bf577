// On a file system that shares extents a commit moves no bytes: what base gains lies where the top's
// clusters lie, and takes no space.

import { execFileSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { sharingDisk, whyNoSharing } from '../support/mounts.ts';
import { checkClean, compare } from '../support/qemu.ts';

const reason = whyNoSharing();
const sharing = reason === undefined ? test : test.skip;
const named = (name: string) => (reason === undefined ? name : `${name} (${reason})`);

const MIB = 1024 * 1024;

function usedBytes(dir: string): number {
  execFileSync('sync', ['-f', dir]);
  const { blocks, bfree, bsize } = statfsSync(dir);
  return (blocks - bfree) * bsize;
}

/** Bytes of a file whose extents are shared with another one. */
function sharedBytes(file: string): number {
  const report = execFileSync('filefrag', ['-v', '-b1024', file], { encoding: 'utf8' });
  return report
    .split('\n')
    .filter((line) => /\bshared\b/.test(line))
    .reduce((sum, line) => sum + Number(line.split(':')[3]?.trim()) * 1024, 0);
}

/** Single clusters in no order, and one run. */
const WRITES = [
  ...Array.from(
    { length: 300 },
    (_, n) => `write -P ${1 + (n % 200)} ${((n * 37) % 300) * 128}k 64k`,
  ),
  'write -P 99 40M 6M',
];

sharing.each([
  ['qcow2', 'qcow2'],
  ['raw', 'raw'],
])(named('a commit into %s takes no space and is right'), { timeout: 60_000 }, async (format) => {
  const images = new Images(sharingDisk(400 * MIB));
  const base = `base.${format}`;
  await images.create(base, '64M');
  await images.create('top.qcow2', '64M', { backing: base });
  await images.io('top.qcow2', ...WRITES);
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  const [dir, file] = [images.path('.'), images.path(base)];
  const before = usedBytes(dir);
  const outcome = await qimg(['commit', '-d', 'top.qcow2'], dir);
  expect(outcome).toMatchObject({ code: 0, stdout: 'Image committed.\n' });
  expect(usedBytes(dir) - before).toBeLessThan(2 * MIB);
  expect(sharedBytes(file)).toBeGreaterThanOrEqual(300 * 65536 + 6 * MIB);
  if (format === 'qcow2') await checkClean(file);
  await compare(file, format, images.path('before.raw'), 'raw');
  await compare(images.path('top.qcow2'), 'qcow2', join(dir, 'before.raw'), 'raw');
});
