// A layer whose tables or data lie past the end of its file has lost them. They read as zeros, and
// a commit that takes them for zeros would overwrite good data of base: it has to be refused.

import { statSync, truncateSync } from 'node:fs';
import { expect, test } from 'vitest';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { run } from '../support/qemu.ts';
import { expectRefused } from '../support/refusals.ts';
import { stack, THREE } from '../support/stacks.ts';

const CLUSTER = 65536;
const L1 = 3 * CLUSTER;
const L2 = 4 * CLUSTER;

/** What is left of the file (the last cluster may be there in part, so a cut there shows nothing): with 2 MiB disks its clusters are the header, tables and then data. */
const CUTS: readonly (readonly [string, number])[] = [
  ['in the header, behind its fixed fields', 104],
  ['in the name of the backing file', 300],
  ['behind the header', CLUSTER],
  ['at the L1 table', L1],
  ['in the first entry of the L1 table', L1 + 4],
  ['at the L2 table', L2],
  ['in the middle of an entry of the L2 table', L2 + 68],
  ['in the middle of the L2 table', L2 + 12 * 8],
  ['at the first data', L2 + CLUSTER],
  ['in the data', 11 * CLUSTER + 777],
];

for (const name of ['top.qcow2', 'mid.qcow2']) {
  test.each(CUTS)(`${name} cut off %s`, async (_where, length) => {
    const images = await stack(THREE, { size: '2M' });
    expect(statSync(images.path(name)).size).toBe(21 * CLUSTER);
    truncateSync(images.path(name), length);
    const words = new RegExp(name.replace('.', '\\.'));
    await expectRefused(images.dir, ['commit', '-b', 'base.qcow2', 'top.qcow2'], words);
  });
}

test('the default form: the top is neither committed nor emptied', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2'], { size: '2M' });
  truncateSync(images.path('top.qcow2'), 12 * CLUSTER);
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /top\.qcow2/);
  await expectRefused(images.dir, ['commit', '--force', 'top.qcow2'], /top\.qcow2/);
});

test('compressed clusters past the end', async () => {
  const images = await stack(['base.qcow2'], { size: '2M' });
  await images.create('top.qcow2', '2M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -c -P 1 0 64k', 'write -c -P 2 64k 64k');
  const { size } = statSync(images.path('top.qcow2'));
  truncateSync(images.path('top.qcow2'), Math.min(size - 64, 5 * CLUSTER));
  await expectRefused(images.dir, ['commit', 'top.qcow2'], /top\.qcow2/);
});

test('a dry run lists it', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2'], { size: '2M' });
  truncateSync(images.path('top.qcow2'), 12 * CLUSTER);
  const { code, stdout, stderr } = await limited(['commit', '--dry-run', 'top.qcow2'], images.dir);
  expect(code).toBe(1);
  expect(stdout + stderr).toMatch(/refused: .*top\.qcow2|^qimg-ts: .*top\.qcow2/m);
});

test('its map is told as QEMU tells it', async () => {
  const images = new Images();
  await images.create('cut.qcow2', '1M');
  await images.io('cut.qcow2', 'write -P 1 0 256k');
  truncateSync(images.path('cut.qcow2'), 400 * 1024);
  for (const args of [['map'], ['map', '--output=json']]) {
    const theirs = await run('qemu-img', [...args, 'cut.qcow2'], { cwd: images.dir });
    expect(await qimg([...args, 'cut.qcow2'], images.dir)).toEqual(theirs);
  }
  const { code, stderr } = await qimg(['compare', 'cut.qcow2', 'cut.qcow2'], images.dir);
  expect([code, stderr]).toEqual([3, expect.stringContaining('end of the file')]);
});
