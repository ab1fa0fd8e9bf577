// A base whose refcounts call clusters free that its map uses, and which is not marked dirty: new
// data must not go over the old. (QEMU 7.2 lets it, and the view through the top changes.)

import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { contentOf, expectClearError, expectRefused } from '../support/refusals.ts';
import { stack, TWO } from '../support/stacks.ts';

const CLUSTER = 65536;

/** Sets the refcounts (16 bits each, in cluster 2) of some clusters to 0. */
function callFree(images: Images, name: string, first: number, count: number): void {
  const bytes = readFileSync(images.path(name));
  bytes.fill(0, 2 * CLUSTER + 2 * first, 2 * CLUSTER + 2 * (first + count));
  writeFileSync(images.path(name), bytes);
}

test('live data of base is not overwritten', async () => {
  const images = await stack(['base.qcow2']);
  await images.create('top.qcow2', '8M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 2 2M 1M');
  // Data begins behind header, refcounts, L1 and L2 table.
  callFree(images, 'base.qcow2', 5, 16);
  const view = await images.view('top.qcow2');
  const before = contentOf(images.dir);
  const outcome = await limited(['commit', 'top.qcow2'], images.dir);
  if (outcome.code !== 0) {
    expectClearError(outcome);
    expect(contentOf(images.dir)).toEqual(before);
  }
  expect((await images.view('top.qcow2')).equals(view), 'the view through the top').toBe(true);
});

test.each([
  ['the header', 0],
  ['the L1 table', 3],
  ['an L2 table', 4],
] as const)('%s called free: a dry run says that it would be refused', async (_what, cluster) => {
  const images = await stack(TWO);
  callFree(images, 'base.qcow2', cluster, 1);
  const real = await limited(['commit', 'top.qcow2'], images.copy().dir);
  const dry = await limited(['commit', '--dry-run', 'top.qcow2'], images.dir);
  expect(dry.code).toBe(real.code);
  // It is found before the job starts, and no rerun helps: the image has to be repaired.
  expect(real.stderr).not.toContain('Block job failed');
  expect(real.stderr).not.toContain('the same command completes the commit');
});

test('with --reclaim those of the layers that let go have to be right, too', async () => {
  const images = await stack(['base.qcow2', 'mid.qcow2', 'top.qcow2']);
  callFree(images, 'mid.qcow2', 5, 1);
  const args = ['commit', '--reclaim', '-b', 'base.qcow2', 'top.qcow2'];
  const { stderr } = await expectRefused(images.dir, args, /mid.qcow2: .* its refcount is 0/);
  expect(stderr).toContain('qimg-ts check -r all');
});
