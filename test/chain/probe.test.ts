// Formats by their first bytes.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PROBE_BYTES, probeFormat } from '../../src/chain/probe.ts';
import { headerWith } from '../support/headers.ts';

const bytesOf = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));

function withBytesAt(offset: number, bytes: readonly number[]): Uint8Array {
  const start = new Uint8Array(PROBE_BYTES);
  start.set(bytes, offset);
  return start;
}

test.each([
  ['qcow2', headerWith({})],
  ['qcow2', headerWith({ version: 9 })],
  ['qcow', headerWith({ version: 1 })],
  ['raw', headerWith({ version: 0 })],
  ['qed', bytesOf('QED\0')],
  ['vmdk', bytesOf('KDMV')],
  ['vmdk', bytesOf('COWD')],
  ['vmdk', bytesOf('# Disk DescriptorFile\n')],
  ['vhdx', bytesOf('vhdxfile')],
  ['vpc', bytesOf('conectix')],
  ['vdi', withBytesAt(64, [0x7f, 0x10, 0xda, 0xbe])],
  ['luks', bytesOf('LUKS\xba\xbe')],
  ['parallels', bytesOf('WithoutFreeSpace')],
  ['bochs', bytesOf('Bochs Virtual HD Image')],
  ['cloop', bytesOf('#!/bin/sh\n#V2.0 Format\n')],
  ['raw', new Uint8Array(PROBE_BYTES)],
  ['raw', new Uint8Array()],
  ['raw', bytesOf('QFI\xfb')],
])('%s', (format, start) => {
  expect(probeFormat(start)).toBe(format);
});

test('any bytes have a format, however few they are', () => {
  const marks = fc.constantFrom('QFI\xfb', 'KDMV', 'vhdxfile', 'LUKS\xba\xbe', '');
  fc.assert(
    fc.property(marks, fc.uint8Array({ maxLength: 80 }), (mark, rest) => {
      const bytes = Uint8Array.from([...bytesOf(mark), ...rest]);
      for (let length = 0; length <= bytes.length; length++) {
        expect(probeFormat(bytes.subarray(0, length))).toMatch(/^\w+$/);
      }
    }),
  );
});
