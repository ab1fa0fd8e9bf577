// Block devices (loop devices) in every place of a chain. Logical volumes behave the same to us: a
// fixed size, no holes, no length in their stat.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { loopDevice, whyNoLoops } from '../support/mounts.ts';
import { checkClean, compare, qemuImg, qemuIo, viewOf } from '../support/qemu.ts';
import { checkNotCorrupt, committed, expectClearError } from '../support/refusals.ts';

const reason = whyNoLoops();
const onDevices = reason === undefined ? test : test.skip;
const named = (name: string) => (reason === undefined ? name : `${name} (${reason})`);

const MIB = 1024 * 1024;

/** What a device holds now, past all caches of its file. */
function bytesOf(device: string): Buffer {
  execFileSync('blockdev', ['--flushbufs', device]);
  return readFileSync(device);
}

async function createOn(device: string, size: string, backing?: string): Promise<void> {
  const below = backing === undefined ? [] : ['-u', '-b', backing, '-F', 'qcow2'];
  await qemuImg('create', '-q', '-f', 'qcow2', ...below, device, size);
}

onDevices.each([[], ['-f', 'qcow2'], ['-d', '-f', 'qcow2']])(
  named('FILENAME is a device: commit %j %j %j'),
  async (...form: readonly string[]) => {
    const images = new Images();
    await images.create('base.qcow2', '8M');
    await images.io('base.qcow2', 'write -P 1 0 1M');
    const top = loopDevice(8 * MIB);
    await createOn(top, '8M', images.path('base.qcow2'));
    await qemuIo(top, ['write -P 2 512k 2M', 'write -z 4M 1M']);
    const view = await viewOf(top, 'qcow2', images.path('scratch'));
    await committed(images.dir, ...form, top);
    await checkClean(images.path('base.qcow2'));
    await checkNotCorrupt(top);
    expect((await images.view('base.qcow2')).equals(view)).toBe(true);
    expect((await viewOf(top, 'qcow2', images.path('scratch'))).equals(view)).toBe(true);
    // Emptied, it takes new writes and another commit.
    await qemuIo(top, ['write -P 9 3M 1M']);
    await committed(images.dir, ...form, top);
    await compare(top, 'qcow2', images.path('base.qcow2'), 'qcow2');
    await checkClean(images.path('base.qcow2'));
    await checkNotCorrupt(top);
  },
);

onDevices(named('base is qcow2 on a device'), async () => {
  const images = new Images();
  const base = loopDevice(8 * MIB);
  await createOn(base, '16M');
  await qemuIo(base, ['write -P 1 0 1M']);
  await images.create('top.qcow2', '16M', { backing: base });
  await images.io('top.qcow2', 'write -P 2 512k 3M', 'write -z 0 64k', 'write -P 3 15M 1M');
  const view = await images.view('top.qcow2');
  await committed(images.dir, 'top.qcow2');
  expect((await viewOf(base, 'qcow2', images.path('scratch'))).equals(view)).toBe(true);
  expect((await images.view('top.qcow2')).equals(view)).toBe(true);
  await checkClean(base);
});

onDevices(named('base is a raw device, larger than the top: what lies behind stays'), async () => {
  const images = new Images();
  const base = loopDevice(8 * MIB);
  await qemuIo(base, ['write -P 1 0 8M'], 'raw');
  const args = ['-u', '-b', base, '-F', 'raw', images.path('top.qcow2'), '4M'];
  await qemuImg('create', '-q', '-f', 'qcow2', ...args);
  await images.io('top.qcow2', 'write -P 2 512k 1M', 'write -z 2M 100k', 'write -z 3000k 4k');
  const view = await images.view('top.qcow2');
  await committed(images.dir, 'top.qcow2');
  const after = bytesOf(base);
  expect(after.subarray(0, 4 * MIB).equals(view)).toBe(true);
  expect(after.subarray(4 * MIB).equals(Buffer.alloc(4 * MIB, 1))).toBe(true);
  expect((await images.view('top.qcow2')).equals(view)).toBe(true);
});

onDevices(named('a device between, and as the layer that is merged into'), async () => {
  const images = new Images();
  const mid = loopDevice(8 * MIB);
  await images.create('base.qcow2', '8M');
  await images.io('base.qcow2', 'write -P 1 0 1M');
  await createOn(mid, '8M', images.path('base.qcow2'));
  await qemuIo(mid, ['write -P 2 512k 1M']);
  await images.create('top.qcow2', '8M', { backing: mid });
  await images.io('top.qcow2', 'write -P 3 1M 1M');
  const view = await images.view('top.qcow2');

  await committed(images.dir, '-d', 'top.qcow2');
  await checkClean(mid);
  expect((await viewOf(mid, 'qcow2', images.path('scratch'))).equals(view)).toBe(true);

  const { code, stderr } = await limited(
    ['commit', '-b', images.path('base.qcow2'), '--relink', '--delete', 'top.qcow2'],
    images.dir,
  );
  expect(code).toBe(1);
  expect(stderr).toMatch(new RegExp(`'${mid}' can't be deleted: it is not a regular file`));

  await committed(images.dir, '-b', images.path('base.qcow2'), '--relink', 'top.qcow2');
  expect((await images.view('top.qcow2')).equals(view)).toBe(true);
  expect((await images.view('base.qcow2')).equals(view)).toBe(true);
  await checkClean(images.path('base.qcow2'));
});

onDevices(named('a raw device too small to grow: refused before a byte is written'), async () => {
  const images = new Images();
  const base = loopDevice(2 * MIB);
  await qemuIo(base, ['write -P 1 0 2M'], 'raw');
  const args = ['-u', '-b', base, '-F', 'raw', images.path('top.qcow2'), '3M'];
  await qemuImg('create', '-q', '-f', 'qcow2', ...args);
  await images.io('top.qcow2', 'write -P 2 0 1M');
  const [device, top] = [bytesOf(base), readFileSync(images.path('top.qcow2'))];
  for (const form of [[], ['--force'], ['-d'], ['-b', base]]) {
    const outcome = await limited(['commit', ...form, 'top.qcow2'], images.dir);
    expect(outcome.code).toBe(1);
    expectClearError(outcome);
    expect(outcome.stderr).toContain(
      `'${base}' has 2097152 bytes, 'top.qcow2' has 3145728, and the base can't grow: it is a device`,
    );
    expect(bytesOf(base).equals(device)).toBe(true);
    expect(readFileSync(images.path('top.qcow2')).equals(top)).toBe(true);
  }
});

onDevices(
  named('qcow2 on a device that is too small: refused; with --force it stops safely'),
  async () => {
    const images = new Images();
    const base = loopDevice(2 * MIB);
    await createOn(base, '8M');
    await qemuIo(base, ['write -P 1 0 1M']);
    await images.create('top.qcow2', '8M', { backing: base });
    await images.io('top.qcow2', 'write -P 2 512k 4M');
    const view = await images.view('top.qcow2');
    const before = bytesOf(base);

    const refused = await limited(['commit', 'top.qcow2'], images.dir);
    expect(refused.code).toBe(1);
    expectClearError(refused);
    expect(refused.stderr).toMatch(/needs \d+ bytes more .*\d+ are free/);
    expect(bytesOf(base).equals(before)).toBe(true);

    const stopped = await limited(['commit', '--force', 'top.qcow2'], images.dir);
    expect(stopped.code).toBe(1);
    expectClearError(stopped);
    expect(stopped.stderr).toMatch(/^qimg-ts: Block job failed: No space left on device\n/);
    expect(stopped.stderr).toContain(base);
    await checkNotCorrupt(base);
    expect((await images.view('top.qcow2')).equals(view)).toBe(true);
  },
);

onDevices(named('two names of one device are one layer: a loop is seen'), async () => {
  const images = new Images();
  const device = loopDevice(2 * MIB);
  await createOn(device, '1M', `${device.replace('/dev/', '/dev/./')}`);
  const { code, stderr } = await limited(['commit', '-f', 'qcow2', device], images.dir);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/infinite loop/)]);
});
