// Damaged images written to by us and by qemu-io: both note it in the header, or neither does, and
// find the same words.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { nodeHost } from '../../src/io/node-host.ts';
import { corruptionBehind } from '../../src/qcow2/corruption.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { sideBySide } from '../support/as-qemu.ts';
import { Images } from '../support/images.ts';
import { mustIn, qemuIo, run } from '../support/qemu.ts';

const COPIED = 1n << 63n;
const OFFSET = 0x00ff_ffff_ffff_fe00n;
const L1_OFFSET = 40;
const REFCOUNT_TABLE_OFFSET = 48;

interface Places {
  readonly bytes: Buffer;
  readonly l1: number;
  readonly l2: number;
  readonly refcountTable: number;
  readonly refcountBlock: number;
}

function damage(from: string, to: string, change: (places: Places) => void): void {
  const bytes = readFileSync(from);
  const pointer = (at: number) => Number(bytes.readBigUInt64BE(at) & OFFSET);
  const [l1, refcountTable] = [pointer(L1_OFFSET), pointer(REFCOUNT_TABLE_OFFSET)];
  change({ bytes, l1, l2: pointer(l1), refcountTable, refcountBlock: pointer(refcountTable) });
  writeFileSync(to, bytes);
}

const set = (bytes: Buffer, at: number, bits: bigint) =>
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE(at) | bits, at);
const point = (bytes: Buffer, at: number, host: number) =>
  bytes.writeBigUInt64BE(COPIED | BigInt(host), at);

const DAMAGES: Readonly<Record<string, (places: Places) => void>> = {
  'data not aligned': ({ bytes, l2 }) => set(bytes, l2 + 8, 512n),
  'L2 table not aligned': ({ bytes, l1 }) => set(bytes, l1, 512n),
  'data over the refcount table': ({ bytes, l2, refcountTable }) =>
    point(bytes, l2 + 8, refcountTable),
  'data over the L1 table': ({ bytes, l1, l2 }) => point(bytes, l2 + 8, l1),
  'data over its L2 table': ({ bytes, l2 }) => point(bytes, l2 + 8, l2),
  'data over the refcount block': ({ bytes, l2, refcountBlock }) =>
    point(bytes, l2 + 8, refcountBlock),
  'data over the snapshot table': ({ bytes, l2 }) =>
    point(bytes, l2 + 8, Number(bytes.readBigUInt64BE(64))),
  'data over the L1 table of a snapshot': ({ bytes, l2 }) =>
    point(bytes, l2 + 8, Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(64))))),
  'an L2 table over the refcount table': ({ bytes, l1, refcountTable }) =>
    point(bytes, l1, refcountTable),
};

test.each(['compat=1.1', 'compat=0.10'])('%s', async (options) => {
  const images = new Images();
  const [sound, ours, theirs] = ['sound.qcow2', 'ours.qcow2', 'theirs.qcow2'] as const;
  await images.create(sound, '1M', { options: `${options},cluster_size=4096` });
  await images.io(sound, 'write -P 1 0 64k', 'write -P 2 512k 8k');
  await images.qemuImg('snapshot', '-c', 's', sound);
  await images.io(sound, 'write -P 3 0 64k');
  for (const [name, change] of Object.entries(DAMAGES)) {
    for (const file of [ours, theirs]) damage(images.path(sound), images.path(file), change);
    const io = await run('qemu-io', ['-c', 'write -P 9 4k 4k', images.path(theirs)]);
    const storage = await nodeHost.openStorage(images.path(ours), { writable: true });
    const image = await Qcow2Image.open(storage);
    const error: unknown = await image
      .write(4096, new Uint8Array(4096).fill(9))
      .catch((reason: unknown) => reason);
    await image.close().catch(() => undefined);
    const words = corruptionBehind(error)?.words;
    expect(io.stderr + io.stdout, name).toContain(`qcow2: Marking image as corrupt: ${words};`);
    const features = (file: string) => readFileSync(images.path(file)).readBigUInt64BE(72);
    expect(features(ours), name).toBe(options === 'compat=1.1' ? 2n : features(sound));
    expect(features(ours), name).toBe(features(theirs));
  }
});

const { testLines, testDifferences } = sideBySide(async (dir) => {
  const path = (name: string) => `${dir}/${name}`;
  for (const compat of ['0.10', '1.1']) {
    const sound = `sound${compat}.qcow2`;
    const options = ['-o', `compat=${compat},cluster_size=4096`];
    await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...options, sound, '1M');
    await qemuIo(sound, ['write -P 1 0 64k', 'write -P 2 512k 8k'], 'qcow2', dir);
  }
  damage(path('sound1.1.qcow2'), path('data.qcow2'), ({ bytes, l2 }) => set(bytes, l2 + 8, 512n));
  damage(path('sound1.1.qcow2'), path('l2.qcow2'), ({ bytes, l1 }) => set(bytes, l1, 512n));
  damage(path('sound0.10.qcow2'), path('zero.qcow2'), ({ bytes, l2 }) =>
    bytes.writeBigUInt64BE(1n, l2 + 8),
  );
  damage(path('sound1.1.qcow2'), path('marked.qcow2'), ({ bytes }) => bytes.writeUInt8(2, 79));
  for (const name of ['data', 'marked']) {
    const over = ['-b', `${name}.qcow2`, '-F', 'qcow2', `over-${name}.qcow2`];
    await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...over);
  }
});

testLines(`
map data.qcow2
map l2.qcow2
map zero.qcow2
map over-data.qcow2
compare data.qcow2 sound1.1.qcow2
compare sound1.1.qcow2 l2.qcow2
compare zero.qcow2 sound1.1.qcow2
info data.qcow2
info marked.qcow2
map marked.qcow2
compare marked.qcow2 sound1.1.qcow2
commit marked.qcow2
`);

testDifferences([
  [
    'commit over-marked.qcow2',
    'QEMU, which opens a base for reading first, writes to it all the same',
  ],
]);
