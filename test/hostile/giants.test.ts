// Small files that say they are huge: each command ends by itself, in words, under 1 GiB of address
// space and 30 s of CPU, and leaves the file alone.

import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { encodeBitmapsExtension } from '../../src/qcow2/extensions.ts';
import { viewOf, writeU64 } from '../../src/qcow2/fields.ts';
import type { NewHeader } from '../../src/qcow2/header.ts';
import { AUTOCLEAR, EXTENSION } from '../../src/qcow2/spec.ts';
import { GIB, MIB } from '../../src/units.ts';
import { headerWith, type RawFields, SOUND } from '../support/headers.ts';
import { confined } from '../support/limited.ts';
import { tempDir } from '../support/temp.ts';

const COPIED = 1n << 63n;
const ENTRIES = 32 * MIB;

interface Part {
  readonly at: number;
  readonly bytes: Uint8Array;
}

function sparse(file: string, size: number, parts: readonly Part[]): string {
  const fd = openSync(file, 'w');
  for (const { at, bytes } of parts) writeSync(fd, bytes, 0, bytes.length, at);
  ftruncateSync(fd, size);
  closeSync(fd);
  return file;
}

const header = (fields: RawFields, base: NewHeader = SOUND): Part => ({
  at: 0,
  bytes: headerWith(fields, { ...base, clusterBits: Number(fields.clusterBits ?? 9) }),
});

function entries(at: number, count: number, entry: (index: number) => bigint): Part {
  const bytes = new Uint8Array(count * 8);
  const view = viewOf(bytes);
  for (let i = 0; i < count; i++) view.setBigUint64(i * 8, entry(i));
  return { at, bytes };
}

const READERS = [['info'], ['check'], ['map', '--output=json'], ['chain']] as const;

async function survives(directory: string, name: string, verbs = READERS): Promise<void> {
  const digest = () => {
    const fd = openSync(join(directory, name), 'r');
    const start = new Uint8Array(MIB);
    readSync(fd, start);
    closeSync(fd);
    return createHash('sha256').update(start).digest('hex');
  };
  const before = digest();
  const commands = [...verbs, ['compare', name], ['commit', '--dry-run']];
  for (const words of commands) {
    const { code, stderr } = await confined([...words, name], directory);
    // It is about what it says, and not about a header that is nonsense.
    const told = name === 'bitmaps' ? /bitmaps are too large/.test(stderr) : code === 0;
    if (words[0] === 'info') expect(told).toBe(true);
    expect({ words, code: code <= 4, trace: /\n {4}at |RangeError/.test(stderr) }).toEqual({
      words,
      code: true,
      trace: false,
    });
  }
  expect(digest()).toBe(before);
}

const CLUSTER = 2 * MIB;
const huge = { clusterBits: 21, refcountTableOffset: 3 * CLUSTER, l1TableOffset: CLUSTER };

test('an L1 table all of whose entries name one L2 table', async () => {
  const directory = tempDir();
  const count = 16_000;
  const size = count * 512 * GIB;
  sparse(join(directory, 'shared'), 10 * MIB, [
    header({ ...huge, l1Size: count, size }),
    entries(CLUSTER, count, () => COPIED | BigInt(2 * CLUSTER)),
    entries(2 * CLUSTER, 1000, (i) => (i % 2 ? 0n : COPIED | BigInt(4 * CLUSTER))),
  ]);
  await survives(directory, 'shared');
});

test('an L2 table all of whose entries name one cluster of data', async () => {
  const directory = tempDir();
  sparse(join(directory, 'data'), 10 * MIB, [
    header({ ...huge, l1Size: 1, size: 512 * GIB }),
    entries(CLUSTER, 1, () => COPIED | BigInt(2 * CLUSTER)),
    entries(2 * CLUSTER, CLUSTER / 8, () => COPIED | BigInt(4 * CLUSTER)),
  ]);
  await survives(directory, 'data', [['info'], ['chain']] as unknown as typeof READERS);
});

test('a disk of 2^53 bytes with nothing in it', async () => {
  const directory = tempDir();
  const size = 2 ** 53 - GIB;
  sparse(join(directory, 'empty'), 10 * MIB, [header({ ...huge, l1Size: 16_384, size })]);
  await survives(directory, 'empty');
});

test('a strict comparison of it with itself', async () => {
  const directory = tempDir();
  const size = 2 ** 51 - GIB;
  const tables = { refcountTableOffset: 65_536, l1TableOffset: 4 * 65_536 };
  const fields = { clusterBits: 16, ...tables, l1Size: ENTRIES / 8, size };
  sparse(join(directory, 'empty'), 40 * MIB, [header(fields)]);
  const { code } = await confined(['compare', '-s', 'empty', 'empty'], directory);
  expect(code).toBe(0);
});

test('four million small L2 tables in the hole of a file', async () => {
  const directory = tempDir();
  const count = ENTRIES / 8;
  const first = 64 * MIB;
  sparse(join(directory, 'holes'), first + count * 512, [
    header({ clusterBits: 9, l1TableOffset: MIB, l1Size: count, size: count * 32_768 }),
    entries(MIB, count, (i) => COPIED | BigInt(first + ((i * 5) % count) * 512)),
  ]);
  await survives(directory, 'holes', [['info'], ['map'], ['chain']] as unknown as typeof READERS);
});

test('65,536 snapshots of which the file has none', async () => {
  const directory = tempDir();
  const fields = { l1TableOffset: MIB, nbSnapshots: 65_536, snapshotsOffset: 2 * MIB };
  sparse(join(directory, 'snapshots'), 3 * MIB, [header(fields)]);
  await survives(directory, 'snapshots');
});

test('bitmaps whose tables would have to be read for ever', async () => {
  const directory = tempDir();
  const nbBitmaps = 4000;
  const entry = new Uint8Array(32);
  writeU64(viewOf(entry), 0, 64 * MIB);
  viewOf(entry).setUint32(8, 65_536);
  viewOf(entry).setUint32(12, 2);
  entry.set([1, 9, 0, 5], 16);
  const names = Array.from({ length: nbBitmaps }, (_, i) => {
    const one = entry.slice();
    one.set(new TextEncoder().encode(String(i).padStart(5, '0')), 24);
    return one;
  });
  const directorySize = nbBitmaps * 32;
  const data = encodeBitmapsExtension({ nbBitmaps, directorySize, directoryOffset: 4 * MIB });
  const base = { ...SOUND, extensions: [{ type: EXTENSION.bitmaps, data }] };
  const fields = {
    size: 128 * GIB,
    l1Size: ENTRIES / 8,
    l1TableOffset: 128 * MIB,
    autoclearFeatures: AUTOCLEAR.bitmaps,
  };
  sparse(join(directory, 'bitmaps'), 256 * MIB, [
    header(fields, base),
    { at: 4 * MIB, bytes: Buffer.concat(names) },
  ]);
  await survives(directory, 'bitmaps');
});

test('a chain of layers each of which wants 32 MiB for its L1 table', async () => {
  const directory = tempDir();
  for (let i = 0; i < 12; i++) {
    const backingFile = i === 0 ? null : `layer${i - 1}`;
    const data = new TextEncoder().encode('qcow2');
    const extensions = backingFile === null ? [] : [{ type: EXTENSION.backingFormat, data }];
    const base = { ...SOUND, backingFile, extensions };
    if (backingFile !== null) base.backingFileSize = backingFile.length;
    const fields = { size: 128 * GIB, l1Size: ENTRIES / 8, l1TableOffset: MIB };
    sparse(join(directory, `layer${i}`), 64 * MIB, [header(fields, base)]);
  }
  await survives(directory, 'layer11');
});
