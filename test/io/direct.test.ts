// Around the page cache: the flags that files are opened with, and bytes at any offset, on file systems
// and devices whose blocks are of different sizes.

import * as fs from 'node:fs';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FileStorage } from '../../src/io/file.ts';
import type { CacheMode } from '../../src/io/host.ts';
import { randomFrom } from '../support/crash.ts';
import { blockDisk, loopDevice, ramDisk, whyNoLoops, whyNoMounts } from '../support/mounts.ts';
import { pattern } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

const { O_DIRECT, O_DSYNC } = fs.constants;
const noDisks = whyNoMounts() ?? whyNoLoops();
const onDisks = noDisks === undefined ? test : test.skip;
const named = (name: string) => (noDisks === undefined ? name : `${name} (${noDisks})`);

/** Flags of the descriptors that are open to the file, by how the kernel tells them. */
function flagsOf(filename: string): readonly number[] {
  const flags: number[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) !== filename) continue;
      const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
      flags.push(Number.parseInt(/^flags:\s*([0-7]+)/m.exec(info)?.[1] ?? '', 8));
    } catch {
      // The descriptor of the listing itself.
    }
  }
  return flags;
}

const has = (flags: number, flag: number): boolean => (flags & flag) === flag;

test.each<[CacheMode, boolean, boolean]>([
  ['none', true, false],
  ['directsync', true, true],
  ['writethrough', false, true],
  ['writeback', false, false],
  ['unsafe', false, false],
])('%s: O_DIRECT %s, O_DSYNC %s, also made writable later', async (cache, direct, dsync) => {
  const filename = join(tempDir(), 'file');
  writeFileSync(filename, pattern(10_000, 1));
  const storage = await FileStorage.open(filename, { writable: false, cache });
  const expectFlags = () => {
    const [flags = 0] = flagsOf(filename);
    expect([has(flags, O_DIRECT), has(flags, O_DSYNC)]).toEqual([direct, dsync]);
  };
  expectFlags();
  await storage.makeWritable([], []);
  expectFlags();
  await storage.write(3, new Uint8Array(9000), 'data');
  // What has a block in part goes through the cache, as durable as the rest.
  const flags = flagsOf(filename);
  expect(flags).toHaveLength(direct ? 2 : 1);
  expect(flags.every((each) => has(each, O_DSYNC) === dsync)).toBe(true);
  await storage.close();
  expect(flagsOf(filename)).toEqual([]);
});

/** Random transfers, several at once, against bytes in memory. */
async function compareWithModel(filename: string, resizable: boolean, seed: number): Promise<void> {
  const random = randomFrom(seed);
  const disk = 3 * 1024 * 1024;
  let model = pattern(disk, seed);
  writeFileSync(filename, model);
  await using storage = Object.assign(
    await FileStorage.open(filename, { writable: true, cache: 'none' }),
    { [Symbol.asyncDispose]: async () => undefined },
  );
  const grow = (end: number) => {
    if (end <= model.length) return;
    const longer = new Uint8Array(end);
    longer.set(model);
    model = longer;
  };
  for (let round = 0; round < 60; round++) {
    // Neighbours that share blocks, at once; the last one may reach past the end.
    const start = random(resizable ? disk : disk - 400_000);
    const borders = Array.from({ length: 5 }, () => start + random(400_000)).sort((a, b) => a - b);
    const unit = round % 3 === 0 ? 512 : 1;
    const aligned = borders.map((at) => at - (at % unit));
    const work: Promise<unknown>[] = [];
    for (const [i, from] of aligned.slice(0, -1).entries()) {
      const to = aligned[i + 1] ?? from;
      if (to === from) continue;
      grow(to);
      const bytes = pattern(to - from, round * 10 + i);
      if (i === 2) {
        model.fill(0, from, to);
        work.push(storage.zero(from, to - from, 'data'));
      } else {
        model.set(bytes, from);
        work.push(storage.write(from, bytes, 'data'));
      }
    }
    await Promise.all(work);
    const at = random(model.length);
    const length = random(300_000);
    const space = new Uint8Array(length + 1).fill(9);
    await storage.read(at, space.subarray(1));
    const wanted = new Uint8Array(length);
    wanted.set(model.subarray(at, at + length));
    expect(Buffer.compare(space.subarray(1), wanted)).toBe(0);
  }
  await storage.flush();
  await storage.close();
  if (resizable) expect(statSync(filename).size).toBe(model.length);
  expect(Buffer.compare(readFileSync(filename).subarray(0, model.length), model)).toBe(0);
}

test('bytes at any offset are right, and the file has its length to the byte', async () => {
  await compareWithModel(join(tempDir(), 'file'), true, 1);
});

onDisks.each([
  ['ext4', 512],
  ['ext4', 4096],
  ['xfs', 512],
  ['xfs', 4096],
] as const)(named('the same on %s over blocks of %d bytes'), async (kind, bytes) => {
  await compareWithModel(join(blockDisk(kind, bytes), 'file'), true, bytes);
});

onDisks(named('the same on a device'), async () => {
  await compareWithModel(loopDevice(3 * 1024 * 1024), false, 4);
});

onDisks(named("where the file system can not, that is said in QEMU's words"), async () => {
  const filename = join(ramDisk(), 'file');
  writeFileSync(filename, 'x');
  const opening = FileStorage.open(filename, { writable: false, cache: 'none' });
  await expect(opening).rejects.toMatchObject({
    code: 'unsupported',
    message: `Could not open '${filename}': filesystem does not support O_DIRECT`,
  });
  expect(flagsOf(filename)).toEqual([]);
});

test('without the system calls the cache is used, which is told once', async () => {
  const dir = mkdtempSync(join(tempDir(), 'x'));
  const told: string[] = [];
  const warn = (message: string) => void told.push(message);
  for (const name of ['a', 'b']) {
    writeFileSync(join(dir, name), 'x');
    const options = { writable: true, cache: 'directsync', syscalls: null, warn } as const;
    const storage = await FileStorage.open(join(dir, name), options);
    expect(has(flagsOf(join(dir, name))[0] ?? 0, O_DIRECT)).toBe(false);
    await storage.write(5, pattern(5000, 1), 'data');
    await storage.close();
  }
  expect(told).toEqual([expect.stringContaining('page cache can not be bypassed here')]);
});
