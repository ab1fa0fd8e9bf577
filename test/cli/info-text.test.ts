// The human output of info, and its sizes as qemu-img prints them.

import { describe, expect, test } from 'vitest';
import { infoText, sizeText } from '../../src/cli/info-text.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

test.each([
  [0, '0 B'],
  [1, '1 B'],
  [512, '512 B'],
  [999, '999 B'],
  [KIB, '1 KiB'],
  [1.5 * KIB, '1.5 KiB'],
  [196 * KIB, '196 KiB'],
  [10.24 * KIB, '10.2 KiB'],
  [999 * KIB, '999 KiB'],
  [MIB, '1 MiB'],
  [1.25 * MIB, '1.25 MiB'],
  [12.5 * MIB, '12.5 MiB'],
  [100.5 * MIB, '100 MiB'],
  [101.5 * MIB, '102 MiB'],
  [1.125 * MIB, '1.12 MiB'],
  [64 * MIB * KIB, '64 GiB'],
  [2 ** 40, '1 TiB'],
  [2 ** 52, '4 PiB'],
  [2 ** 62, '4 EiB'],
])('%d bytes are %s', (bytes, words) => {
  expect(sizeText(bytes)).toBe(words);
});

const RAW = {
  'virtual-size': MIB,
  filename: 'disk.raw',
  format: 'raw',
  'actual-size': 4096,
  'dirty-flag': false,
};

test('a raw file is told in four lines', () => {
  expect(infoText(RAW)).toBe(
    'image: disk.raw\n' +
      'file format: raw\n' +
      'virtual size: 1 MiB (1048576 bytes)\n' +
      'disk size: 4 KiB\n',
  );
});

describe('an image', () => {
  const image = { ...RAW, format: 'qcow2', 'cluster-size': 65536 };

  test('says where its backing file is, and where that lies really', () => {
    const same = { ...image, 'backing-filename': '/base', 'full-backing-filename': '/base' };
    expect(infoText(same)).toContain('\nbacking file: /base\n');
    const other = {
      ...image,
      'backing-filename': 'base',
      'full-backing-filename': 'dir/base',
      'backing-filename-format': 'raw',
    };
    expect(infoText(other)).toContain(
      '\nbacking file: base (actual path: dir/base)\nbacking file format: raw\n',
    );
  });

  test('says what is unusual about it', () => {
    const unusual = infoText({ ...image, encrypted: true, 'dirty-flag': true });
    expect(unusual).toContain('\nencrypted: yes\ncluster_size: 65536\ncleanly shut down: no\n');
    expect(infoText(image)).not.toMatch(/encrypted|cleanly/);
  });

  test('lists what is specific to its format, lists and objects indented', () => {
    const data = {
      compat: '1.1',
      'refcount-bits': 16,
      corrupt: false,
      bitmaps: [{ flags: ['auto'], name: 'b' }],
    };
    const text = infoText({ ...image, 'format-specific': { type: 'qcow2', data } });
    expect(text.slice(text.indexOf('Format'))).toBe(
      'Format specific information:\n' +
        '    compat: 1.1\n' +
        '    refcount bits: 16\n' +
        '    corrupt: false\n' +
        '    bitmaps:\n' +
        '        [0]:\n' +
        '            flags:\n' +
        '                [0]: auto\n' +
        '            name: b\n',
    );
  });

  test('lists its snapshots in columns', () => {
    const snapshot = {
      id: '1',
      name: 'before',
      'vm-state-size': 0,
      'date-sec': Date.UTC(2024, 0, 2, 3, 4, 5) / 1000,
      'date-nsec': 0,
      'vm-clock-sec': 3725,
      'vm-clock-nsec': 42_900_000,
      icount: 7,
    };
    const [head, titles, row] = infoText({ ...image, snapshots: [snapshot] })
      .slice(infoText(image).length)
      .split('\n');
    expect(head).toBe('Snapshot list:');
    expect(titles).toMatch(/^ID {8}TAG {15}VM SIZE {16}DATE {5}VM CLOCK {5}ICOUNT$/);
    expect(row).toMatch(
      /^1 {9}before {16}0 B 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d 01:02:05\.042 {10}7$/,
    );
    expect(row).toHaveLength(titles?.length ?? 0);
  });
});
