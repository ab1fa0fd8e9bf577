// qimg-ts check -r and --dry-run, as users see them.

import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { CLI, qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { run } from '../support/qemu.ts';

/** An image whose refcounts are lost. */
async function broken(images: Images, name: string): Promise<void> {
  await images.create(name, '1M', { options: 'cluster_size=4096' });
  await images.io(name, 'write -P 5 0 40k');
  const bytes = readFileSync(images.path(name));
  const table = Number(bytes.readBigUInt64BE(48));
  bytes.writeBigUInt64BE(0n, table);
  writeFileSync(images.path(name), bytes);
}

test('--dry-run says what a repair would do, and writes nothing', async () => {
  const images = new Images();
  await broken(images, 'a.qcow2');
  const before = readFileSync(images.path('a.qcow2'));
  const dry = await qimg(['check', '--dry-run', 'a.qcow2'], images.dir);
  const json = await qimg(['check', '--dry-run', '--output=json', 'a.qcow2'], images.dir);
  expect(readFileSync(images.path('a.qcow2')).equals(before)).toBe(true);
  expect(dry.code).toBe(0);
  expect(dry.stdout).toContain('The following inconsistencies would be repaired:\n');
  expect(dry.stdout).toContain('What would be left then:\nNo errors were found on the image.\n');
  const wet = await qimg(['check', '-r', 'all', 'a.qcow2'], images.dir);
  expect(wet.stderr).toBe(dry.stderr);
  const members = JSON.parse(json.stdout) as Record<string, unknown>;
  expect(members).toMatchObject({ 'corruptions-fixed': 14, 'dry-run': true });
  expect(wet.stdout).toContain('    14 corruptions\n');
});

test('--dry-run -r leaks tells that leaks alone can not be repaired', async () => {
  const images = new Images();
  await broken(images, 'a.qcow2');
  const { code, stderr } = await qimg(['check', '--dry-run', '-r', 'leaks', 'a.qcow2'], images.dir);
  expect(code).toBe(1);
  expect(stderr).toContain('ERROR need to rebuild refcount structures\n');
  expect(stderr).toContain('check -r all');
});

test('a disk of 16 TiB with sparse tables takes seconds, in 1 GiB of address space', async () => {
  const images = new Images();
  await images.create('big.qcow2', '16T');
  await images.io('big.qcow2', 'write -P 1 0 64k', 'write -P 2 8T 1M', 'write -P 3 15T 1M');
  // A file of many clusters that are free.
  truncateSync(images.path('big.qcow2'), 2 ** 40);
  await zeroRefcountTable(images.path('big.qcow2'));
  for (const [args, left] of [
    [['check', '-q'], 2],
    [['check', '-q', '-r', 'all'], 0],
    [['check', '-q'], 0],
  ] as const) {
    const limits = ['--as=1073741824', '--cpu=30', process.execPath, CLI];
    const { code } = await run('prlimit', [...limits, ...args, 'big.qcow2'], { cwd: images.dir });
    expect(code).toBe(left);
  }
  expect(await run('qemu-img', ['check', images.path('big.qcow2')])).toMatchObject({ code: 0 });
  await images.io('big.qcow2', 'read -P 1 0 64k', 'read -P 2 8T 1M', 'read -P 3 15T 1M');
});

async function zeroRefcountTable(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    const header = Buffer.alloc(512);
    await handle.read(header, 0, 512, 0);
    await handle.write(Buffer.alloc(4096), 0, 4096, Number(header.readBigUInt64BE(48)));
  } finally {
    await handle.close();
  }
}
