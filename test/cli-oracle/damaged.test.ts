// Files that lost a part or never got it. Either the commit is refused and nothing is touched, or
// it succeeds and base shows what QEMU showed through the top before. What lies past the end of a
// layer's file is lost, not zero: those cases are in found-truncated.test.ts.

import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { checkNotCorrupt, contentOf, expectClearError } from '../support/refusals.ts';
import { stack, THREE } from '../support/stacks.ts';

/** Header, refcount table, refcount block, L1 table, L2 table and data take one cluster each. */
const CLUSTER = 65536;

async function refusedOrRight(images: Images, args: readonly string[]): Promise<void> {
  const view = await images.view('top.qcow2').catch(() => undefined);
  const before = contentOf(images.dir);
  const outcome = await limited(['commit', ...args], images.dir);
  if (outcome.code === 0) {
    expect(view, 'QEMU can not even read it').toBeDefined();
    expect((await images.view('top.qcow2')).equals(view ?? Buffer.alloc(0))).toBe(true);
    expect((await images.view('base.qcow2')).equals(view ?? Buffer.alloc(0))).toBe(true);
    await checkNotCorrupt(images.path('base.qcow2'));
  } else {
    expect(outcome.code).toBe(1);
    expectClearError(outcome);
    expect(outcome.stderr).toMatch(/'?(top|mid|base)\.qcow2|Image does not have a backing file/);
    expect(contentOf(images.dir)).toEqual(before);
  }
}

const LENGTHS = [
  ...[0, 4, 8, 71, 103],
  ...[CLUSTER, CLUSTER + 8, 2 * CLUSTER, 2 * CLUSTER + 2, 3 * CLUSTER],
  ...[3 * CLUSTER + 8, 4 * CLUSTER, 4 * CLUSTER + 71, 5 * CLUSTER, 9 * CLUSTER + 777],
];

test.each(LENGTHS)('base cut to %i bytes', async (length) => {
  const images = await stack(THREE, { size: '2M' });
  truncateSync(images.path('base.qcow2'), length);
  await refusedOrRight(images, ['-b', 'base.qcow2', 'top.qcow2']);
});

test.each(LENGTHS.filter((length) => length < 104))(
  'top, or a layer between, with %i bytes of its header',
  async (length) => {
    for (const name of ['top.qcow2', 'mid.qcow2']) {
      const images = await stack(THREE, { size: '2M' });
      truncateSync(images.path(name), length);
      await refusedOrRight(images, ['-b', 'base.qcow2', 'top.qcow2']);
    }
  },
);

/** From there to its end the file is full of zeros, as after a crash of the machine. */
async function zeroFrom(images: Images, name: string, offset: number): Promise<void> {
  const bytes = readFileSync(images.path(name));
  writeFileSync(images.path(name), bytes.fill(0, offset));
}

test.each([
  ['top.qcow2', 0],
  ['top.qcow2', 8],
  ['top.qcow2', 3 * CLUSTER],
  ['top.qcow2', 4 * CLUSTER + 72],
  ['top.qcow2', 10 * CLUSTER],
  ['mid.qcow2', 8],
  ['mid.qcow2', 3 * CLUSTER],
  ['mid.qcow2', 4 * CLUSTER + 40],
  ['mid.qcow2', 10 * CLUSTER],
  ['base.qcow2', 8],
  ['base.qcow2', CLUSTER],
  ['base.qcow2', 3 * CLUSTER],
  ['base.qcow2', 4 * CLUSTER],
  ['base.qcow2', 4 * CLUSTER + 40],
  ['base.qcow2', 10 * CLUSTER],
] as const)('%s with nothing but zeros from byte %i on', async (name, offset) => {
  const images = await stack(THREE, { size: '2M' });
  await zeroFrom(images, name, offset);
  await refusedOrRight(images, ['-b', 'base.qcow2', 'top.qcow2']);
});

test('a byte of each table turned over: done or refused in clear words, never a crash', async () => {
  const places = [8, 20, 36, 40, 48, 56, 79, 100, 104];
  const tables = [CLUSTER, 2 * CLUSTER + 3, 3 * CLUSTER + 5];
  for (const name of ['top.qcow2', 'base.qcow2']) {
    for (const at of [...places, ...tables, 4 * CLUSTER + 71]) {
      const images = await stack(THREE, { size: '2M' });
      const bytes = readFileSync(images.path(name));
      bytes[at] = (bytes[at] ?? 0) ^ 0x80;
      writeFileSync(images.path(name), bytes);
      const before = contentOf(images.dir);
      const outcome = await limited(['commit', '-b', 'base.qcow2', 'top.qcow2'], images.dir);
      if (outcome.code !== 0) {
        expectClearError(outcome);
        expect(contentOf(images.dir), `byte ${at} of ${name}`).toEqual(before);
      }
      expect([0, 1], `byte ${at} of ${name}`).toContain(outcome.code);
    }
  }
});
