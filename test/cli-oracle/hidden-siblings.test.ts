// Images that stand on base and are not easily noticed: without a word the commit would change what
// their guests see.

import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { committed, expectRefused } from '../support/refusals.ts';
import { stack, TWO } from '../support/stacks.ts';

const create = (images: Images, ...args: readonly string[]) =>
  images.qemuImg('create', '-q', '-u', ...args);

test('a sibling that names its backing file as json:, as libvirt and QEMU do', async () => {
  const images = await stack(TWO);
  const file = { driver: 'file', filename: images.path('base.qcow2') };
  const json = `json:${JSON.stringify({ driver: 'qcow2', file })}`;
  await create(images, '-f', 'qcow2', '-b', json, '-F', 'qcow2', 'sibling.qcow2', '8M');
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /sibling\.qcow2/);
});

test('a sibling that is in the directory of the chain as a link to an image elsewhere', async () => {
  const images = await stack(TWO);
  mkdirSync(images.path('store'));
  await images.create('store/disk.qcow2', '8M', { backing: images.path('base.qcow2') });
  symlinkSync('store/disk.qcow2', images.path('sibling.qcow2'));
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /sibling\.qcow2|disk\.qcow2/);
});

test('a sibling beside the file that the name of base is a link to', async () => {
  const images = await stack(TWO);
  mkdirSync(images.path('store'));
  renameSync(images.path('base.qcow2'), images.path('store/base.qcow2'));
  symlinkSync('store/base.qcow2', images.path('base.qcow2'));
  await images.create('store/sibling.qcow2', '8M', { backing: 'base.qcow2' });
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /sibling\.qcow2/);
});

test('a sibling with an incompatible feature of a later QEMU', async () => {
  const images = await stack(TWO);
  await images.create('sibling.qcow2', '8M', { backing: 'base.qcow2' });
  const bytes = readFileSync(images.path('sibling.qcow2'));
  bytes[79] = 0x40;
  writeFileSync(images.path('sibling.qcow2'), bytes);
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /sibling\.qcow2/);
});

test('a sibling whose name is not UTF-8, over a base whose name is none', async () => {
  const images = await stack(TWO);
  const named = (bytes: string) => Buffer.from(images.path(bytes), 'latin1');
  renameSync(images.path('base.qcow2'), named('b\xff.qcow2'));
  const backing = (name: string) => {
    // As long as it was, so that it can be written over it.
    const bytes = readFileSync(images.path(name));
    bytes.write('b\xff.qcow2', bytes.indexOf('base.qcow2'), 'latin1');
    bytes.writeUInt32BE('b\xff.qcow2'.length, 16);
    writeFileSync(images.path(name), bytes);
  };
  backing('top.qcow2');
  copyFileSync(images.path('top.qcow2'), named('s\xe9bling.qcow2'));
  const { code, stderr } = await limited(['commit', 'top.qcow2'], images.dir);
  expect(code).toBe(1);
  expect(stderr).toMatch(/depend on 'b\\xff\.qcow2' .*: 's\\xe9bling\.qcow2'/);
  await committed(images.dir, '--force', 'top.qcow2');
});

test('FIFOs, sockets, devices and links to them are not opened', async () => {
  const images = await stack(TWO);
  execFileSync('mkfifo', [images.path('fifo.qcow2')]);
  symlinkSync('fifo.qcow2', images.path('link.qcow2'));
  symlinkSync('/dev/zero', images.path('zero.qcow2'));
  symlinkSync('nowhere', images.path('broken.qcow2'));
  const socket = createServer().listen(images.path('socket.qcow2'));
  onTestFinished(() => void socket.close());
  await committed(images.dir, 'top.qcow2');
});

test('what can not be understood is told, and no reason to refuse', async () => {
  const images = await stack(TWO);
  writeFileSync(images.path('future.qcow2'), Buffer.from('QFI\xfb\0\0\0\x09', 'latin1'));
  const { stderr } = await committed(images.dir, 'top.qcow2');
  expect(stderr).toBe(
    "qimg-ts: warning: 'future.qcow2' could not be read: it may depend on the base, too\n",
  );
});

test('chain tells of neighbours that could not be read, the first ten by name', async () => {
  const images = await stack(TWO);
  const future = Buffer.from('QFI\xfb\0\0\0\x09', 'latin1');
  writeFileSync(images.path('future\n1.qcow2'), future);
  const run = async () => (await limited(['chain', 'top.qcow2'], images.dir)).stdout;
  const start = '  note: could not be read, and may depend on these: ';
  expect(await run()).toContain(`${start}'future\u{fffd}1.qcow2'\n`);
  for (let i = 10; i < 21; i++) writeFileSync(images.path(`f${i}`), future);
  const text = (await run()).replace(/\n +/g, ' ');
  const names = Array.from({ length: 10 }, (_, i) => `'f${10 + i}'`).join(', ');
  expect(text).toContain(`${start.trimStart()}${names} and 2 more\n`);
});
