// Small files that claim millions of tables: a check of them, and a repair, ends soon and in little
// memory, or says why not.

import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { CLI } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { type Outcome, run } from '../support/qemu.ts';

// What counts is the time of the processor, which is limited.
vi.setConfig({ testTimeout: 240_000 });

/** As many as an image may have. */
const ENTRIES = 2 ** 22;
const CLUSTER = 2 ** 16;
const L1 = 4 * CLUSTER;
const L1_END = L1 + ENTRIES * 8;
const COPIED = 2n ** 63n;

interface Hostile {
  /** Where the L2 table of an L1 entry is said to lie; 0: nowhere. */
  readonly l2: (index: number) => number;
  readonly fileSize: number;
  /** All 8 MiB of a refcount table, behind the L1 table, point to one block. */
  readonly manyBlocks?: boolean;
}

async function make(images: Images, hostile: Hostile): Promise<void> {
  const { l2, fileSize, manyBlocks = false } = hostile;
  const [block, table] = [3 * CLUSTER, manyBlocks ? L1_END : 2 * CLUSTER];
  const tableBytes = manyBlocks ? 2 ** 23 : CLUSTER;
  const header = Buffer.alloc(112);
  header.write('QFI\xfb', 'latin1');
  header.writeUInt32BE(3, 4);
  header.writeUInt32BE(Math.log2(CLUSTER), 20);
  header.writeBigUInt64BE(2n ** 36n, 24);
  header.writeUInt32BE(ENTRIES, 36);
  header.writeBigUInt64BE(BigInt(L1), 40);
  header.writeBigUInt64BE(BigInt(table), 48);
  header.writeUInt32BE(tableBytes / CLUSTER, 56);
  header.writeUInt32BE(4, 96);
  header.writeUInt32BE(104, 100);
  const pointers = Buffer.alloc(manyBlocks ? tableBytes : 8);
  for (let at = 0; at < pointers.length; at += 8) pointers.writeBigUInt64BE(BigInt(block), at);
  const l1 = Buffer.alloc(ENTRIES * 8);
  for (let i = 0; i < ENTRIES; i++) {
    const offset = l2(i);
    if (offset > 0) l1.writeBigUInt64BE(COPIED | BigInt(offset), i * 8);
  }
  const handle = await open(images.path('hostile.qcow2'), 'w');
  try {
    await handle.write(header, 0, header.length, 0);
    await handle.write(pointers, 0, pointers.length, table);
    await handle.write(l1, 0, l1.length, L1);
    await handle.truncate(fileSize);
  } finally {
    await handle.close();
  }
}

/** What a machine has left for a check. */
function check(images: Images, ...flags: string[]): Promise<Outcome> {
  const limits = ['--as=1073741824', '--cpu=30', process.execPath, CLI];
  const args = [...limits, 'check', '-q', ...flags, 'hostile.qcow2'];
  // Millions of messages are not what this is about: the file system takes them.
  const line = `exec prlimit "$@" 2>messages`;
  return run('sh', ['-c', line, 'sh', ...args], { cwd: images.dir });
}

test('four million L2 tables in the hole of a file', async () => {
  const images = new Images();
  const first = L1_END + CLUSTER;
  await make(images, {
    l2: (i) => first + ((i * 5) % ENTRIES) * CLUSTER,
    fileSize: first + ENTRIES * CLUSTER,
  });
  // It ends with a check of what was repaired.
  expect((await check(images, '-r', 'all')).code).toBe(0);
});

test('L2 tables inside the L1 table', async () => {
  const images = new Images();
  await make(images, {
    l2: (i) => L1 + ((i * CLUSTER) % (ENTRIES * 8)),
    fileSize: L1_END + CLUSTER,
  });
  expect((await check(images)).code).toBe(2);
  // Nothing that could be opened would come of it.
  expect((await check(images, '-r', 'all')).code).toBe(1);
  expect(readFileSync(images.path('messages'), 'utf8')).toContain('has no room for them');
});

test('L2 tables that lie across each other are refused', async () => {
  const images = new Images();
  await make(images, {
    l2: (i) => L1 + 512 * (i % 65_000),
    fileSize: L1_END + CLUSTER,
  });
  for (const flags of [[], ['-r', 'all']]) {
    expect((await check(images, ...flags)).code).toBe(1);
    const messages = readFileSync(images.path('messages'), 'utf8');
    expect(messages).toMatch(/lie across each other to be checked|has no room for them/);
  }
});

test('a refcount table that points to one block a million times', async () => {
  const images = new Images();
  const fileSize = L1_END + 2 ** 23;
  await make(images, { l2: () => 0, fileSize, manyBlocks: true });
  expect((await check(images)).code).toBe(2);
  expect((await check(images, '-r', 'all')).code).toBe(0);
});
