// --rebase-siblings: other images go on showing what they show, judged by QEMU.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statfsSync, writeFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { lockedBytes } from '../support/held-bytes.ts';
import { Images } from '../support/images.ts';
import { limited, start } from '../support/limited.ts';
import { smallDisk, whyNoMounts } from '../support/mounts.ts';
import { checkClean } from '../support/qemu.ts';
import { checkNotCorrupt, committed, contentOf, expectRefused } from '../support/refusals.ts';
import { stack, THREE } from '../support/stacks.ts';

const OTHERS = ['on-base.qcow2', 'on-mid.qcow2', 'above.qcow2'] as const;
const FLAGS = ['--rebase-siblings', '-b', 'base.qcow2', 'top.qcow2'] as const;

/** base <- mid <- top, and beside it what the names say; above <- on-base. */
async function withOthers(): Promise<Images> {
  const all = await stack(THREE);
  await all.create('on-base.qcow2', '9M', { backing: 'base.qcow2', options: 'cluster_size=4k' });
  await all.io('on-base.qcow2', 'write -P 80 300k 100k', 'write -z 1M 64k');
  await all.create('on-mid.qcow2', '7M', {
    backing: 'mid.qcow2',
    options: 'compat=0.10,cluster_size=128k',
  });
  await all.create('above.qcow2', '9M', { backing: 'on-base.qcow2' });
  await all.io('above.qcow2', 'write -P 81 350k 3k');
  return all;
}

/** One after the other: they go through the same scratch file. */
async function viewsOf(images: Images): Promise<readonly Buffer[]> {
  const views: Buffer[] = [];
  for (const name of ['top.qcow2', ...OTHERS]) views.push(await images.view(name));
  return views;
}

async function expectSame(images: Images, before: readonly Buffer[]): Promise<void> {
  for (const [i, view] of (await viewsOf(images)).entries()) {
    expect(view.equals(before[i] as Buffer), ['top', ...OTHERS][i]).toBe(true);
  }
}

test('all of them keep their view, and are sound', async () => {
  const images = await withOthers();
  const before = await viewsOf(images);
  const { stderr } = await committed(images.dir, ...FLAGS);
  expect(stderr).toContain("'on-base.qcow2' keeps what it shows: ");
  expect(stderr).toContain("'on-mid.qcow2' keeps what it shows: ");
  expect(stderr).not.toContain('above.qcow2');
  await expectSame(images, before);
  for (const name of ['base.qcow2', 'top.qcow2', ...OTHERS]) await checkClean(images.path(name));
});

test('without it they are refused, and the way out is named', async () => {
  const images = await withOthers();
  const args = ['commit', '-b', 'base.qcow2', 'top.qcow2'];
  await expectRefused(images.dir, args, /'above\.qcow2', 'on-base\.qcow2'.*\n.*--rebase-siblings/);
});

test('--dry-run tells what is copied, and writes nothing', async () => {
  const images = await withOthers();
  const before = contentOf(images.dir);
  const text = await limited(['commit', '--dry-run', ...FLAGS], images.dir);
  expect([text.code, text.stderr]).toEqual([0, '']);
  expect(text.stdout).toMatch(/^first into on-base\.qcow2: copy .*, zero .*, space needed/m);
  const json = await limited(['commit', '--dry-run', '--output=json', ...FLAGS], images.dir);
  const plan = JSON.parse(json.stdout) as { readonly 'sibling-copies': readonly object[] };
  expect(plan['sibling-copies']).toMatchObject([
    { filename: 'on-base.qcow2' },
    { filename: 'on-mid.qcow2' },
  ]);
  expect(contentOf(images.dir)).toEqual(before);
});

test.each([
  ['a sibling', 'on-mid.qcow2', []],
  ['what stands on a sibling', 'above.qcow2', ['-r']],
] as const)('%s that is in use is refused, with who uses it', async (_what, name, options) => {
  const images = await withOthers();
  const holder = spawn('qemu-io', ['-f', 'qcow2', ...options, images.path(name)]);
  const ended = once(holder, 'close');
  onTestFinished(async () => {
    holder.stdin.end('quit\n');
    await ended;
  });
  await once(holder.stdout, 'data');
  const args = ['commit', ...FLAGS];
  const held = new RegExp(
    `Failed to get .*lock\\n.*\\nIt is held by qemu-io \\(process ${holder.pid}\\)`,
  );
  await expectRefused(images.dir, args, held);
});

test('one with internal snapshots is refused', async () => {
  const images = await withOthers();
  await images.qemuImg('snapshot', '-c', 's', 'on-mid.qcow2');
  await expectRefused(images.dir, ['commit', ...FLAGS], /on-mid\.qcow2.*has internal snapshots/);
});

test('killed while it copies: the same command goes on', async () => {
  const images = await withOthers();
  const before = await viewsOf(images);
  for (const wait of [100, 600]) {
    const { child, ended } = start(['commit', '-r', '1M', ...FLAGS], images.dir);
    while (child.exitCode === null && !lockedBytes(images.path('base.qcow2')).includes(101)) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
    child.kill('SIGKILL');
    await ended;
    await expectSame(images, before);
    for (const name of ['base.qcow2', 'top.qcow2', ...OTHERS]) {
      await checkNotCorrupt(images.path(name));
    }
  }
  await committed(images.dir, ...FLAGS);
  await expectSame(images, before);
});

const reason = whyNoMounts();
const MIB = 1024 * 1024;

(reason === undefined ? test : test.skip)(
  `room for base alone, or its sibling alone, is too little${reason === undefined ? '' : ` (${reason})`}`,
  async () => {
    const disk = new Images(smallDisk(8 * MIB));
    const images = new Images();
    await disk.create('base.qcow2', '8M');
    await disk.io('base.qcow2', 'write -P 1 0 2M');
    await disk.create('sibling.qcow2', '8M', { backing: 'base.qcow2' });
    await images.create('top.qcow2', '8M', { backing: disk.path('base.qcow2') });
    await images.io('top.qcow2', 'write -P 2 1M 2M');
    const { bavail, bsize } = statfsSync(disk.dir);
    writeFileSync(disk.path('filler'), new Uint8Array(bavail * bsize - 1.6 * MIB));
    const args = ['commit', '--rebase-siblings', 'top.qcow2'];
    const words = /base\.qcow2', with its siblings, needs \d+ bytes more in .*, and \d+ are free/;
    await expectRefused(images.dir, args, words);
    writeFileSync(disk.path('filler'), '');
    const before = await disk.view('sibling.qcow2');
    await committed(images.dir, '--rebase-siblings', 'top.qcow2');
    expect((await disk.view('sibling.qcow2')).equals(before)).toBe(true);
  },
);
