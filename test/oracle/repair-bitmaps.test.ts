// Bitmaps that keep QEMU from opening an image: under its name we refuse it as well, under ours a
// repair lets go of them, and the disk can be used again.

import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sideBySide } from '../support/as-qemu.ts';
import { type BitmapPlaces, bitmapsIn, changeBitmaps } from '../support/bitmaps.ts';
import { qimg } from '../support/cli.ts';
import { mustIn, qemuIo, run } from '../support/qemu.ts';

type Damage = readonly [part: keyof BitmapPlaces, offset: number, hex: string];

const DAMAGES: Readonly<Record<string, Damage>> = {
  'too-many': ['extension', 0, '00000003'],
  'directory-past-end': ['extension', 16, '0000000100000000'],
  'entry-type': ['entry', 16, '02'],
  'same-name': ['entry', 24, '6231'],
  'table-nonsense': ['table', 0, '0000000000000002'],
};
const NAMES = Object.keys(DAMAGES);

const { both } = sideBySide(async (dir) => {
  const options = ['-o', 'cluster_size=4096'];
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...options, 'sound.qcow2', '1M');
  for (const name of ['b0', 'b1']) {
    await mustIn(dir, 'qemu-img', 'bitmap', '--add', 'sound.qcow2', name);
  }
  await qemuIo('sound.qcow2', ['write -P 4 300k 10k'], 'qcow2', dir);
  for (const [name, [part, offset, hex]] of Object.entries(DAMAGES)) {
    copyFileSync(join(dir, 'sound.qcow2'), join(dir, `${name}.qcow2`));
    changeBitmaps(join(dir, `${name}.qcow2`), (bytes, places) => {
      bytes.write(hex, places[part] + offset, 'hex');
    });
  }
});

test.each(NAMES)('%s', async (name) => {
  const file = `${name}.qcow2`;
  const { theirs, mine, myDir } = await both(['check', '-r', 'all', file]);
  expect(mine).toEqual(theirs);
  expect(mine.code).toBe(1);
  const { code, stderr } = await qimg(['check', '-r', 'all', file], myDir);
  expect({ code, told: stderr.split('\n')[0] }).toEqual({
    code: 0,
    told: expect.stringContaining("Removing the bitmaps, which can't be read: "),
  });
  expect(await run('qemu-img', ['check', file], { cwd: myDir })).toMatchObject({ code: 0 });
  await mustIn(myDir, 'qemu-img', 'compare', file, 'sound.qcow2');
});

test('what an inconsistent bitmap has for a table is no reason to keep it', async () => {
  const prepare = (dir: string) =>
    changeBitmaps(join(dir, 'sound.qcow2'), (bytes, places) => {
      bytes.writeUInt32BE(3, places.entry + 12);
      bytes.write('0000000000000002', places.table, 'hex');
    });
  const { theirs, mine, myDir } = await both(['check', '-r', 'all', 'sound.qcow2'], prepare);
  expect([theirs.code, mine.code]).toEqual([1, 0]);
  expect(await run('qemu-img', ['check', 'sound.qcow2'], { cwd: myDir })).toMatchObject({
    code: 0,
  });
});

const loseBits = (bytes: Buffer, { table }: BitmapPlaces) =>
  bytes.write('0000000001000000', table, 'hex');

const loseTable = (bytes: Buffer, { entry }: BitmapPlaces) =>
  bytes.write('0000000001000000', entry, 'hex');

test.each([
  ["bitmap 'b0', table entry 0", loseBits],
  ["table of bitmap 'b0'", loseTable],
])('%s: bits past the end of the file count as set', async (what, lose) => {
  const prepare = (dir: string) => changeBitmaps(join(dir, 'sound.qcow2'), lose);
  const { theirs, mine, myDir } = await both(['check', '-r', 'all', 'sound.qcow2'], prepare);
  expect([theirs.code, mine.code]).toEqual([2, 0]);
  expect(mine.stderr).toContain(`Repairing ${what}: offset=0x1000000 is past the end`);
  expect(await run('qemu-img', ['check', 'sound.qcow2'], { cwd: myDir })).toMatchObject({
    code: 0,
  });
  const [b0, b1] = bitmapsIn(readFileSync(join(myDir, 'sound.qcow2')));
  expect([b0?.dirty.length, b1?.dirty.length]).toEqual([2048, 24]);
});

test('lost bits are left alone where their table is what the guest has for data', async () => {
  const prepare = (dir: string) => {
    changeBitmaps(join(dir, 'sound.qcow2'), (bytes, places) => {
      loseBits(bytes, places);
      const l2 = bytes.readUIntBE(Number(bytes.readBigUInt64BE(40)) + 2, 6);
      bytes.writeUIntBE(places.table, l2 + 75 * 8 + 2, 6);
    });
    copyFileSync(join(dir, 'sound.qcow2'), join(dir, 'before.qcow2'));
  };
  const { myDir } = await both(['check', '-r', 'all', 'sound.qcow2'], prepare);
  await mustIn(myDir, 'qemu-img', 'compare', 'sound.qcow2', 'before.qcow2');
});
