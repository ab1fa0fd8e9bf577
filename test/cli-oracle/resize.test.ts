// resize where there is little room, on devices, and what it says under our own name.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import { aes, encryptedFile, luks } from '../support/encrypted.ts';
import { limited } from '../support/limited.ts';
import { loopDevice, smallDisk, whyNoLoops, whyNoMounts } from '../support/mounts.ts';
import { checkClean, mustIn, qemuImg, qemuIo, run } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const MIB = 1024 * 1024;
const ours = asQemu();
afterAll(() => ours.remove());

const named = (name: string, reason: string | undefined) =>
  reason === undefined ? name : `${name} (${reason})`;
const noMounts = whyNoMounts();
const onSmallDisk = noMounts === undefined ? test : test.skip;
const noLoops = whyNoLoops();
const onDevices = noLoops === undefined ? test : test.skip;

async function sizeOf(file: string): Promise<number> {
  return JSON.parse(await mustIn('/', 'qemu-img', 'info', '--output=json', file))['virtual-size'];
}

onSmallDisk.each(['falloc', 'full'])(
  named('no room for preallocation=%s: QEMU words, the image as before', noMounts),
  async (mode) => {
    const dir = smallDisk(6 * MIB);
    const file = join(dir, 'a.qcow2');
    await qemuImg('create', '-q', '-f', 'qcow2', file, '1M');
    await qemuIo(file, ['write -P 1 0 1M']);
    const args = ['resize', `--preallocation=${mode}`, 'a.qcow2', '20M'];
    const mine = await ours.run(args, dir);
    expect(await sizeOf(file)).toBe(MIB);
    await checkClean(file);
    expect(statSync(file).size).toBeLessThan(2 * MIB);
    await qemuIo(file, ['read -P 1 0 1M']);
    const theirs = await run('qemu-img', args, { cwd: dir });
    expect(mine).toEqual(theirs);
  },
);

onSmallDisk(named('too little space is refused with both numbers', noMounts), async () => {
  const dir = smallDisk(6 * MIB);
  const file = join(dir, 'a.qcow2');
  await qemuImg('create', '-q', '-f', 'qcow2', file, '1M');
  const before = statSync(file).mtimeMs;
  const args = ['resize', '--preallocation=falloc', 'a.qcow2', '20M'];
  const refused = await limited(args, dir);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(
    /^qimg-ts: 'a\.qcow2' needs 199\d+ bytes more, and \d+ are free\nMake room, or use --force /,
  );
  expect(statSync(file).mtimeMs).toBe(before);
  const forced = await limited([...args.slice(0, -2), '--force', 'a.qcow2', '20M'], dir);
  expect(forced.stderr).toMatch(
    /Could not preallocate new data: No space left on device\nCould not allocate space in .* once the cause is gone/,
  );
  expect(await sizeOf(file)).toBe(MIB);
  await checkClean(file);
});

onSmallDisk(named('a full disk gets room by a smaller image', noMounts), async () => {
  const dir = smallDisk(4 * MIB);
  const file = join(dir, 'a.qcow2');
  await qemuImg('create', '-q', '-f', 'qcow2', file, '3M');
  await qemuIo(file, ['write -P 1 0 3M']);
  await run('dd', ['if=/dev/zero', `of=${join(dir, 'rest')}`, 'bs=4k'], { cwd: dir });
  const result = await limited(['resize', '--shrink', 'a.qcow2', '1M'], dir);
  expect(result).toEqual({ code: 0, stdout: 'Image resized.\n', stderr: '' });
  await checkClean(file);
  expect(statSync(file).size).toBeLessThan(1.5 * MIB);
});

onDevices(named('devices: QEMU words, and the disk on them', noLoops), async () => {
  const dir = tempDir();
  const device = loopDevice(8 * MIB);
  const lines = [
    '-f raw DEVICE 4M',
    '-f raw --shrink DEVICE 4M',
    '-f raw DEVICE 8M',
    '-f raw DEVICE 16M',
    '-f raw --preallocation=full DEVICE 16M',
  ];
  const qcow2 = [
    '-f qcow2 DEVICE 100M',
    '-f qcow2 --preallocation=full DEVICE 101M',
    '-f qcow2 --shrink DEVICE 2M',
    '-f qcow2 --preallocation=metadata DEVICE 3M',
  ];
  const compare = async (line: string) => {
    const args = ['resize', ...line.replace('DEVICE', device).split(' ')];
    const mine = await ours.run(args, dir);
    const [size] = [line.startsWith('-f qcow2') ? await sizeOf(device) : 0];
    return { mine, size, args };
  };
  for (const line of lines) {
    const { mine, args } = await compare(line);
    expect(mine).toEqual(await run('qemu-img', args, { cwd: dir }));
  }
  await qemuImg('create', '-q', '-f', 'qcow2', device, '1M');
  await qemuIo(device, ['write -P 5 0 1M']);
  const sizes: number[] = [];
  for (const line of qcow2) {
    const { mine, size } = await compare(line);
    sizes.push(size / MIB, mine.code);
    if (mine.code !== 0) {
      expect(mine.stderr).toBe(
        'qemu-img: Failed to resize underlying file: ' +
          "Preallocation mode 'full' unsupported for this non-regular file\n",
      );
    }
    await checkClean(device);
  }
  expect(sizes).toEqual([100, 0, 100, 1, 2, 0, 3, 0]);
  await qemuIo(device, ['read -P 5 0 1M', 'read -P 0 1M 2M']);
});

test('version 2 over a longer backing file: QEMU refuses, our own name writes zeros', async () => {
  const dir = tempDir();
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'raw', 'base.raw', '3M');
  await qemuIo(join(dir, 'base.raw'), ['write -P 9 0 3M'], 'raw');
  const options = ['-o', 'compat=0.10', '-b', 'base.raw', '-F', 'raw'];
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...options, 'a.qcow2', '1000k');
  const result = await limited(['resize', 'a.qcow2', '2M'], dir);
  expect(result).toEqual({ code: 0, stdout: 'Image resized.\n', stderr: '' });
  await qemuIo(join(dir, 'a.qcow2'), ['read -P 9 0 1000k', 'read -P 0 1000k 1048k']);
});

test('what an encrypted disk grows by reads as zeros, preallocated or not', async () => {
  const dir = tempDir();
  const secret = ['--object', 'secret,id=s,data=geheim'];
  for (const [name, version, encryption] of [
    ['old.qcow2', 2, aes()],
    ['new.qcow2', 3, luks()],
  ] as const) {
    await encryptedFile(join(dir, name), { size: 1000 * 1024, version, encryption });
    const image = ['--image-opts', `driver=qcow2,file.filename=${name},encrypt.key-secret=s`];
    for (const [mode, size] of Object.entries({ metadata: '2M', full: '3M' })) {
      const args = ['resize', ...secret, ...image, `--preallocation=${mode}`, size];
      expect(await limited(args, dir)).toMatchObject({ code: 0, stderr: '' });
    }
    const read = ['-r', ...secret, ...image, '-c', 'read -P 0 1000k 2072k'];
    const { stdout } = await run('qemu-io', read, { cwd: dir });
    expect(stdout).toContain('read 2121728/2121728 bytes');
    expect(stdout).not.toContain('Pattern verification failed');
  }
});

test('help and hints', async () => {
  const dir = tempDir();
  expect((await limited(['resize', '--help'], dir)).stdout).toContain('--preallocation <mode>');
  expect((await limited(['resize', 'a', '-h'], dir)).stdout).toContain('--shrink');
  const few = await limited(['resize', 'a.qcow2'], dir);
  expect(few.stderr).toMatch(/^qimg-ts: Not enough arguments\n/);
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'a.qcow2', '1M');
  const smaller = await limited(['resize', 'a.qcow2', '-512k'], dir);
  expect(smaller.stderr).toMatch(/^qimg-ts: Use the --shrink .*\nqimg-ts: warning: Shrinking an /);
  const huge = await limited(['resize', 'a.qcow2', '64P'], dir);
  expect(huge.stderr).toMatch(/File too large\nSizes up to 9007199254740991 bytes/);
});
