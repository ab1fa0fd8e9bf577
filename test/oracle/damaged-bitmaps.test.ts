// Bitmap directories and tables that lie: opened or refused as QEMU does it, in its words.

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { sideBySide } from '../support/as-qemu.ts';
import { type BitmapPlaces, changeBitmaps } from '../support/bitmaps.ts';
import { mustIn, qemuIo } from '../support/qemu.ts';

type Damage = readonly [part: keyof BitmapPlaces, offset: number, hex: string];

/** Bytes that are other ones. */
const DAMAGES: readonly Damage[] = [
  ['entry', 16, '02'],
  ['entry', 17, '08'],
  ['entry', 17, '09'],
  ['entry', 17, '20'],
  ['entry', 18, '0000'],
  ['entry', 18, '0400'],
  ['entry', 20, '00000008'],
  ['entry', 24, '6231'],
  ['entry', 24, 'ffff'],
  ['entry', 24, '6200'],
  ['extension', 0, '00000000'],
  ['extension', 0, '00000001'],
  ['extension', 0, '00000003'],
  ['extension', 0, '0001ffff'],
  ['extension', 4, '00000001'],
  ['extension', 8, '0000000000000000'],
  ['extension', 8, '0000000000000010'],
  ['extension', 8, '0000000000000028'],
  ['extension', 8, '0000000000000048'],
  ['extension', 8, '0000000010000000'],
  ['extension', 16, '0000000000000200'],
  ['extension', 16, '0000000100000000'],
];
/** The same for a bitmap in use, whose table nobody looks at before it is checked. */
const ALSO_IN_USE: readonly Damage[] = [
  ['entry', 0, '0000000000000000'],
  ['entry', 0, '0000000000000200'],
  ['entry', 0, '0000000100000000'],
  ['entry', 8, '00000000'],
  ['entry', 8, '00000002'],
  ['entry', 8, '10000000'],
  ['entry', 12, '00000004'],
  ['table', 0, '0000000000000001'],
  ['table', 0, '0000000000000002'],
  ['table', 0, '0000000000000200'],
  ['table', 0, '0000000000001001'],
  ['table', 0, '0100000000000000'],
  ['table', 0, '0000000100000000'],
];

const IMAGES = new Map([
  ...[...DAMAGES, ...ALSO_IN_USE].map((damage, i) => [`${i}.qcow2`, damage] as const),
  ...ALSO_IN_USE.map((damage, i) => [`used-${i}.qcow2`, damage] as const),
]);

const { testLines } = sideBySide(async (dir) => {
  const options = ['-o', 'cluster_size=4096'];
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...options, 'sound.qcow2', '1M');
  for (const name of ['b0', 'b1'])
    await mustIn(dir, 'qemu-img', 'bitmap', '--add', 'sound.qcow2', name);
  await qemuIo('sound.qcow2', ['write 300k 10k'], 'qcow2', dir);
  for (const [name, [part, offset, hex]] of IMAGES) {
    copyFileSync(join(dir, 'sound.qcow2'), join(dir, name));
    changeBitmaps(join(dir, name), (bytes, places) => {
      if (name.startsWith('used')) bytes.writeUInt32BE(3, places.entry + 12);
      bytes.write(hex, places[part] + offset, 'hex');
    });
  }
});

testLines([...IMAGES.keys()].map((name) => `check ${name}`).join('\n'));
