// External data files: made by QEMU and committed by us, and the other way round; base's raw data
// file is what the guest sees, without the map.

import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { checkClean, mustIn, run } from '../support/qemu.ts';
import { expectRefused } from '../support/refusals.ts';

const BASE_WRITES = ['write -P 1 0 1M', 'write -P 2 2M 64k', 'write -P 3 4880k 2k'];
const TOP_WRITES = [
  'write -P 5 500k 100k',
  'write -z 1M 128k',
  'write -P 7 3M 1M',
  'write -z -u 2M 200k',
  'write -z 0 128k',
  'write -P 9 2100k 1k',
];
const SIZE = '5000000';

const data = (name: string, raw = 'off') => `data_file=${name}.data,data_file_raw=${raw}`;

/** `base`, `mid` and `top`: options of each. */
async function chainOf(options: readonly (readonly [string, string, string?])[]): Promise<Images> {
  const images = new Images();
  for (const [i, [name, option, size = SIZE]] of options.entries()) {
    const backing = options[i - 1]?.[0];
    await images.create(name, size, { options: option, ...(backing !== undefined && { backing }) });
    await images.io(name, ...(i === 0 ? BASE_WRITES : TOP_WRITES));
  }
  return images;
}

const KINDS = { none: 'cluster_size=4k', plain: data('base'), raw: data('base', 'on') };
const TOPS = { none: 'cluster_size=64k', plain: `${data('top')},cluster_size=16k` };
const PAIRS = Object.entries(KINDS).flatMap(([base, option]) =>
  Object.entries(TOPS).map(([top, topOption]) => ({ base, top, option, topOption })),
);

test.each(PAIRS)('base $base, top $top', async ({ base, option, topOption }) => {
  const images = await chainOf([
    ['base.qcow2', option],
    ['top.qcow2', topOption],
  ]);
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  if (base !== 'raw') return;
  const view = await images.view('base.qcow2');
  expect(view.equals(readFileSync(images.path('base.data')).subarray(0, view.length))).toBe(true);
});

test.each(['off', 'on'])('a base whose raw is %s grows with its data file', async (raw) => {
  const images = await chainOf([
    ['base.qcow2', data('base', raw)],
    ['top.qcow2', data('top'), '8M'],
  ]);
  await images.io('top.qcow2', 'write -P 8 7M 100k');
  await images.commitAsQemu('top.qcow2', 'base.qcow2');
  expect(statSync(images.path('base.data')).size).toBe(8 * 2 ** 20);
  if (raw === 'off') return;
  const view = await images.view('base.qcow2');
  expect(view.equals(readFileSync(images.path('base.data')))).toBe(true);
});

test('a layer between, relinked and deleted', async () => {
  const images = await chainOf([
    ['base.qcow2', data('base')],
    ['mid.qcow2', data('mid')],
    ['top.qcow2', data('top')],
  ]);
  const view = await images.view('top.qcow2');
  await images.commit('top.qcow2', { base: 'base.qcow2', relink: true });
  expect((await images.view('top.qcow2')).equals(view)).toBe(true);
  for (const name of ['base', 'mid', 'top']) await checkClean(images.path(`${name}.qcow2`));
});

test('an emptied top gives the space of its data file back', async () => {
  const images = await chainOf([
    ['base.qcow2', KINDS.none],
    ['top.qcow2', data('top')],
  ]);
  const blocks = () => statSync(images.path('top.data')).blocks;
  const before = blocks();
  await images.commit('top.qcow2');
  expect(blocks()).toBeLessThan(before / 4);
});

test.each(['off', 'metadata', 'falloc', 'full'])(
  'ours, preallocation %s: checked, filled and committed by QEMU',
  async (preallocation) => {
    const images = new Images();
    const made = async (...args: string[]) => {
      const { code, stderr } = await qimg(['create', '-q', '-f', 'qcow2', ...args], images.dir);
      expect([code, stderr]).toEqual([0, '']);
    };
    const raw = `${data('base', 'on')},preallocation=${preallocation}`;
    await made('-o', raw, 'base.qcow2', SIZE);
    await made('-b', 'base.qcow2', '-F', 'qcow2', '-o', data('top'), 'top.qcow2', '6M');
    await checkClean(images.path('base.qcow2'));
    expect(statSync(images.path('base.data')).size).toBe(5_000_192);
    await images.io('base.qcow2', ...BASE_WRITES);
    await images.io('top.qcow2', ...TOP_WRITES);
    const view = await images.view('top.qcow2');
    await images.qemuImg('commit', '-q', 'top.qcow2');
    await checkClean(images.path('base.qcow2'));
    expect((await images.view('base.qcow2')).equals(view)).toBe(true);
    expect(readFileSync(images.path('base.data')).equals(view)).toBe(true);
  },
);

test('found beside the image, from wherever the command is run', async () => {
  const images = new Images();
  await mustIn(images.dir, 'mkdir', 'sub');
  const create = ['create', '-q', '-f', 'qcow2', '-o', 'data_file=own.data', 'sub/a.qcow2', '1M'];
  expect((await qimg(create, images.dir)).code).toBe(0);
  expect(existsSync(images.path('sub/own.data'))).toBe(true);
  const { stdout } = await qimg(['compare', 'sub/a.qcow2', 'sub/a.qcow2', '-U'], images.dir);
  expect(stdout).toBe('Images are identical.\n');
  await checkClean(images.path('sub/a.qcow2'));
});

test('another data file may be named', async () => {
  const images = await chainOf([['base.qcow2', data('base')]]);
  await mustIn(images.dir, 'mv', 'base.data', 'moved');
  const options = 'driver=qcow2,file.filename=base.qcow2,data-file.filename=moved';
  const ours = await qimg(['map', '--output=json', '--image-opts', options], images.dir);
  const args = ['map', '--output=json', '--image-opts', options];
  const theirs = await run('qemu-img', args, { cwd: images.dir });
  expect(ours.stdout).toBe(theirs.stdout);
});

test('a missing data file is named; nothing is written, and the rest can still be described', async () => {
  const images = await chainOf([
    ['base.qcow2', data('base')],
    ['top.qcow2', KINDS.none],
  ]);
  rmSync(images.path('base.data'));
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /'base\.data': No such file/);
  expect((await qimg(['info', 'base.qcow2'], images.dir)).stdout).toContain('data file: base.data');
  const { stdout } = await qimg(['chain', 'top.qcow2'], images.dir);
  expect(stdout).toMatch(/keeps its data in another file/);
});

test('neither the image itself nor a layer below becomes the data file', async () => {
  const images = await chainOf([['base.qcow2', KINDS.none]]);
  const before = readFileSync(images.path('base.qcow2'));
  const create = (...args: string[]) =>
    qimg(['create', '-q', '-f', 'qcow2', ...args, 'new.qcow2', '1M'], images.dir);
  const itself = await create('-o', 'data_file=new.qcow2');
  expect([itself.code, itself.stderr]).toEqual([1, expect.stringContaining('of itself')]);
  const below = ['-b', 'base.qcow2', '-F', 'qcow2'];
  const layer = await create(...below, '-o', 'data_file=base.qcow2');
  expect([layer.code, layer.stderr]).toEqual([1, expect.stringContaining('would be lost')]);
  expect(readFileSync(images.path('base.qcow2')).equals(before)).toBe(true);
});

test('entries that lie about their place are corruption', async () => {
  const images = await chainOf([['base.qcow2', data('base')]]);
  const file = images.path('base.qcow2');
  const bytes = readFileSync(file);
  const l1 = Number(bytes.readBigUInt64BE(40));
  const l2 = Number(bytes.readBigUInt64BE(l1) & 0xff_ffff_ffff_fe00n);
  bytes.writeBigUInt64BE((1n << 63n) | 0x20000n, l2 + 8);
  writeFileSync(file, bytes);
  const { code, stderr } = await qimg(['map', 'base.qcow2'], images.dir);
  expect(code).toBe(1);
  expect(stderr).toContain('does not match guest cluster offset: 0x10000');
});
