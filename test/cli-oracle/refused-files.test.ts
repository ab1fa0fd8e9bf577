// Files that are no images, or can't be reached: as FILENAME, and in the middle of a chain.

import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { remount, smallDisk, whyNoMounts } from '../support/mounts.ts';
import { mustIn } from '../support/qemu.ts';
import { contentOf, expectRefused } from '../support/refusals.ts';
import { forgetBackingFormat, stack, THREE } from '../support/stacks.ts';

const noMounts = whyNoMounts();

/** Bytes without a pattern, the same each time. */
function noise(length: number): Buffer {
  let state = 12_345;
  return Buffer.from(
    Array.from({ length }, () => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return state >>> 24;
    }),
  );
}

const qcow2Header = (length: number): Buffer => {
  const bytes = noise(length);
  bytes.write('QFI\xfb', 'latin1');
  bytes.writeUInt32BE(3, 4);
  return bytes;
};

const KINDS: Readonly<Record<string, (file: string) => void | Promise<void>>> = {
  'no file': () => undefined,
  'a directory': (file) => mkdirSync(file),
  'a FIFO': (file) => {
    execFileSync('mkfifo', [file]);
  },
  'a socket': async (file) => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(file, resolve));
    onTestFinished(() => {
      server.close();
    });
  },
  'a dangling link': (file) => symlinkSync('nowhere', file),
  'a link to itself': (file) => symlinkSync(file, file),
  'an empty file': (file) => writeFileSync(file, ''),
  'one byte': (file) => writeFileSync(file, 'Q'),
  'the magic alone': (file) => writeFileSync(file, 'QFI\xfb', 'latin1'),
  'random bytes': (file) => writeFileSync(file, noise(100_000)),
  'random bytes after the magic': (file) => writeFileSync(file, qcow2Header(100_000)),
  'text that looks like VMDK': (file) =>
    writeFileSync(file, '# Disk DescriptorFile\nversion=1\n'.padEnd(70_000)),
  'a sparse VMDK': (file) => writeFileSync(file, `KDMV\x01\0\0\0${'x'.repeat(70_000)}`),
};

test.each(Object.keys(KINDS))('as FILENAME: %s', async (kind) => {
  const images = new Images();
  await KINDS[kind]?.(images.path('it'));
  await expectRefused(images.dir, ['commit', 'it'], /'it'|Image does not have a backing file/);
  await expectRefused(images.dir, ['commit', '-f', 'qcow2', 'it'], /'it'/);
});

test.each(Object.keys(KINDS))('as a middle layer and as base of format qcow2: %s', async (kind) => {
  const images = await stack(THREE);
  rmSync(images.path('mid.qcow2'));
  await KINDS[kind]?.(images.path('mid.qcow2'));
  const words = /'(top|mid)\.qcow2'/;
  await expectRefused(images.dir, ['commit', 'top.qcow2'], words);
  await expectRefused(images.dir, ['commit', '-b', 'base.qcow2', 'top.qcow2'], words);
});

test.each(
  Object.keys(KINDS).filter(
    (kind) => !/bytes|byte|file$|magic|VMDK/.test(kind) || kind === 'no file',
  ),
)('as base of format raw: %s', async (kind) => {
  const images = new Images();
  await images.create('base.raw', '1M');
  await images.create('top.qcow2', '1M', { backing: 'base.raw' });
  await images.io('top.qcow2', 'write -P 1 0 64k');
  rmSync(images.path('base.raw'));
  await KINDS[kind]?.(images.path('base.raw'));
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /'top\.qcow2'.*'?base\.raw'?/);
});

test('random bytes as a raw base are a disk like any other', async () => {
  const images = new Images();
  writeFileSync(images.path('base.raw'), qcow2Header(1024 * 1024));
  await images.create('top.qcow2', '1M', { backing: 'base.raw' });
  await images.io('top.qcow2', 'write -P 1 100k 64k');
  await images.commitAsQemu('top.qcow2', 'base.raw');
});

test('/dev/zero and /dev/null are no base', async () => {
  for (const device of ['/dev/zero', '/dev/null']) {
    const images = new Images();
    await images.qemuImg(...`create -q -f qcow2 -u -b ${device} -F raw top.qcow2 1M`.split(' '));
    await expectRefused(images.dir, ['commit', 'top.qcow2'], new RegExp(`'${device}'`));
  }
});

test('a loop of backing files, of one layer and of three', async () => {
  const images = await stack(THREE);
  await images.qemuImg(...'rebase -u -b top.qcow2 -F qcow2 base.qcow2'.split(' '));
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /creates an infinite loop/);
  await images.qemuImg(...'rebase -u -b mid.qcow2 -F qcow2 mid.qcow2'.split(' '));
  const words = /'mid\.qcow2' creates an infinite loop/;
  await expectRefused(images.dir, ['commit', 'mid.qcow2'], words);
  await expectRefused(images.dir, ['commit', 'top.qcow2'], words);
});

test('a loop that goes through a link with another name', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  symlinkSync('top.qcow2', images.path('other.qcow2'));
  await images.qemuImg(...'rebase -u -b other.qcow2 -F qcow2 base.qcow2'.split(' '));
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /infinite loop/);
});

test('a missing layer deep below, not touched by the commit, is named', async () => {
  const images = await stack(['base.qcow2', 'a.qcow2', 'b.qcow2', 'c.qcow2', 'top.qcow2']);
  rmSync(images.path('base.qcow2'));
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /'base\.qcow2': No such file/);
});

test.each(['nbd:localhost:1', 'http://localhost/x', 'ssh://localhost/x', 'foo:bar'])(
  'a backing file behind a protocol: %s',
  async (name) => {
    const images = new Images();
    await images.qemuImg(...`create -q -f qcow2 -u -b ${name} -F raw top.qcow2 1M`.split(' '));
    await expectRefused(images.dir, ['commit', 'top.qcow2'], /'top\.qcow2'.*protocol/s);
  },
);

test('a backing format that is not stored: refused with the command that mends it', async () => {
  const images = await stack(['base.qcow2', 'it is top.qcow2']);
  const top = 'it is top.qcow2';
  forgetBackingFormat(images.path(top));
  const view = await images.view(top);
  const { stderr } = await expectRefused(images.dir, ['commit', top], /does not store the format/);
  const mend = stderr.split('\n').find((line) => line.includes('rebase -u -F'));
  await mustIn(images.dir, 'sh', '-c', mend?.slice(mend.indexOf('qemu-img')) ?? 'false');
  const { code } = await limited(['commit', top], images.dir);
  expect(code).toBe(0);
  expect((await images.view('base.qcow2')).equals(view)).toBe(true);
});

test('a raw base whose format is not stored, written by a guest to look like qcow2', async () => {
  const images = new Images();
  await images.create('secret.raw', '1M');
  await images.create('base.qcow2', '1M', { backing: 'secret.raw' });
  await images.create('top.qcow2', '1M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 1 0 64k');
  forgetBackingFormat(images.path('top.qcow2'));
  const words = /'top\.qcow2' does not store the format of its backing file 'base\.qcow2'/;
  await expectRefused(images.dir, ['commit', 'top.qcow2'], words);
  await expectRefused(images.dir, ['commit', '--force', 'top.qcow2'], words);
  await expectRefused(images.dir, ['commit', '-b', 'base.qcow2', 'top.qcow2'], words);
});

test.skipIf(noMounts)(
  `a file system that is read-only${noMounts ? `: ${noMounts}` : ''}`,
  async () => {
    const images = new Images(smallDisk(8 * 1024 * 1024));
    await stack(['base.qcow2', 'top.qcow2'], { images });
    const above = new Images();
    await above.create('above.qcow2', '8M', { backing: images.path('base.qcow2') });
    await above.io('above.qcow2', 'write -P 7 0 64k');
    rmSync(images.path('view.scratch'), { force: true });
    remount(images.dir, 'ro');
    const words = /Read-only file system/;
    const { stderr } = await expectRefused(images.dir, ['commit', 'top.qcow2'], words);
    expect(stderr).toContain("'top.qcow2'");
    const before = contentOf(images.dir);
    for (const form of [[], ['-d'], ['-b', images.path('base.qcow2')]]) {
      const args = ['commit', '--force', ...form, 'above.qcow2'];
      expect((await expectRefused(above.dir, args, words)).stderr).toContain('base.qcow2');
    }
    expect(contentOf(images.dir)).toEqual(before);
  },
);
