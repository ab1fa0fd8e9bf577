// Which format a file has, by its first bytes. Only for reading: what a guest may have written
// into a raw disk must not decide how the disk is written to.

import { viewOf } from '../qcow2/fields.ts';
import { isQcow2 } from '../qcow2/header.ts';

export const PROBE_BYTES = 2048;

const ascii = (bytes: Uint8Array, offset: number, text: string): boolean =>
  [...text].every((char, i) => bytes[offset + i] === char.charCodeAt(0));

/** Formats that QEMU recognizes and we don't read, with their marks. */
const FOREIGN: readonly { name: string; test: (bytes: Uint8Array) => boolean }[] = [
  {
    name: 'qcow',
    test: (b) => b.length >= 8 && ascii(b, 0, 'QFI\xfb') && viewOf(b).getUint32(4) === 1,
  },
  { name: 'qed', test: (b) => ascii(b, 0, 'QED\0') },
  { name: 'vmdk', test: (b) => ascii(b, 0, 'KDMV') || ascii(b, 0, 'COWD') },
  { name: 'vmdk', test: (b) => ascii(b, 0, '# Disk DescriptorFile') },
  { name: 'vhdx', test: (b) => ascii(b, 0, 'vhdxfile') },
  { name: 'vpc', test: (b) => ascii(b, 0, 'conectix') },
  { name: 'vdi', test: (b) => b.length >= 68 && viewOf(b).getUint32(64, true) === 0xbeda107f },
  { name: 'luks', test: (b) => ascii(b, 0, 'LUKS\xba\xbe') },
  {
    name: 'parallels',
    test: (b) => ascii(b, 0, 'WithoutFreeSpace') || ascii(b, 0, 'WithouFreSpacExt'),
  },
  { name: 'bochs', test: (b) => ascii(b, 0, 'Bochs Virtual HD Image') },
  { name: 'cloop', test: (b) => ascii(b, 0, '#!/bin/sh\n#V2.0 Format\n') },
];

/** `qcow2`, `raw`, or the name of a format that we only know by sight. */
export function probeFormat(start: Uint8Array): string {
  if (isQcow2(start)) return 'qcow2';
  return FOREIGN.find(({ test }) => test(start))?.name ?? 'raw';
}
