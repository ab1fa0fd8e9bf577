// Without the optional system calls (koffi): the same results, by plain reads and writes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { lockedBytes } from '../support/held-bytes.ts';
import type { Images } from '../support/images.ts';
import { limited, start } from '../support/limited.ts';
import { checkClean, infoOf } from '../support/qemu.ts';
import { FIVE, stack } from '../support/stacks.ts';

const WITHOUT = { QIMG_TS_NO_SYSCALLS: '1' };
const WARNING = /^qimg-ts: warning: image locks can not be taken here .*\n/;
const CACHE_WARNING =
  'qimg-ts: warning: the page cache can not be bypassed here (koffi is missing): cache modes none ' +
  'and directsync go through it\n';

async function commit(images: Images, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await limited(['commit', ...args], images.dir, WITHOUT);
  expect(code, stderr).toBe(0);
  expect(stdout).toBe('Image committed.\n');
  // Both are said once.
  const cacheWarning = args.includes('none') ? CACHE_WARNING : '';
  expect(stderr.startsWith(cacheWarning)).toBe(true);
  const rest = stderr.slice(cacheWarning.length);
  expect(rest).toMatch(WARNING);
  expect(rest.match(/warning/g)).toHaveLength(1);
  return rest.replace(WARNING, '');
}

async function expectViews(images: Images, view: Buffer, ...names: readonly string[]) {
  for (const name of names) {
    expect((await images.view(name)).equals(view), name).toBe(true);
    if (name.endsWith('.qcow2')) await checkClean(images.path(name));
  }
}

test.each([
  ['sn4.qcow2', 'sn3.qcow2'],
  ['-d sn4.qcow2', 'sn3.qcow2'],
  ['-b base.qcow2 sn4.qcow2', 'base.qcow2'],
  ['-t none -b base.qcow2 --relink --delete sn4.qcow2', 'base.qcow2'],
] as const)('commit %s', async (line, base) => {
  const images = await stack(FIVE);
  await images.io('sn4.qcow2', 'write -z 256k 1M', 'write -c -P 40 7M 64k', 'discard 3M 128k');
  const view = await images.view('sn4.qcow2');
  await commit(images, ...line.split(' '));
  await expectViews(images, view, base, 'sn4.qcow2');
});

test('--top with relinking and removal', async () => {
  const images = await stack(FIVE);
  const view = await images.view('sn4.qcow2');
  const told = await commit(
    images,
    '--top',
    'sn3.qcow2',
    '-b',
    'sn1.qcow2',
    '--delete',
    'sn4.qcow2',
  );
  expect(told).toContain("deleted: 'sn3.qcow2', 'sn2.qcow2'");
  await expectViews(images, view, 'sn4.qcow2');
  expect((await infoOf(images.path('sn4.qcow2')))['backing-filename']).toBe('sn1.qcow2');
  expect(existsSync(images.path('sn2.qcow2'))).toBe(false);
});

test('a raw base, with zeros', async () => {
  const images = await stack(['base.raw', 'top.qcow2']);
  await images.io('top.qcow2', 'write -z 0 600k');
  const view = await images.view('top.qcow2');
  await commit(images, 'top.qcow2');
  await expectViews(images, view, 'base.raw', 'top.qcow2');
});

test('an image that another process writes to is still refused', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  const holder = spawn('qemu-io', ['-f', 'qcow2', images.path('top.qcow2')]);
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  const { code, stderr } = await limited(['commit', 'top.qcow2'], images.dir, WITHOUT);
  const ended = new Promise((resolve) => holder.once('exit', resolve));
  holder.stdin.end('quit\n');
  await ended;
  expect(code).toBe(1);
  expect(stderr).toMatch(/Failed to get .*lock/);
});

test('one of ours that has them keeps out one that has not', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  await images.create('other.qcow2', '8M', { backing: 'base.qcow2' });
  const { child } = start(['commit', '--force', '-d', '-r', '16k', 'top.qcow2'], images.dir);
  await writing(images.path('base.qcow2'));
  const { code, stderr } = await limited(['map', 'other.qcow2'], images.dir, WITHOUT);
  expect(code).toBe(1);
  expect(stderr).toMatch(/Failed to get shared "write" lock/);
  expect(stderr).toContain(`(process ${child.pid})`);
  expect((await limited(['map', '-U', 'other.qcow2'], images.dir, WITHOUT)).stderr).toBe('');
});

test('nobody is kept out, as was said: QEMU gets in while we write', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  const { child } = start(['commit', '-d', '-r', '16k', 'top.qcow2'], images.dir, WITHOUT);
  const [said] = (await once(child.stderr as Readable, 'data')) as [Buffer];
  expect(said.toString()).toMatch(WARNING);
  expect(lockedBytes(images.path('top.qcow2'))).toEqual([]);
  expect((await infoOf(images.path('top.qcow2')))['virtual-size']).toBe(8 * 1024 * 1024);
  expect(child.exitCode).toBe(null);
});

/** Until somebody holds the lock of a writer. */
async function writing(file: string): Promise<void> {
  while (!lockedBytes(file).includes(101)) await new Promise((resolve) => setTimeout(resolve, 20));
}
