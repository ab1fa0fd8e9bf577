// Writes that damaged pointers and refcounts lead to a structure of the image, by us and by qemu-io:
// the same words, the same bit in the header, and where QEMU keeps what lies there, so do we.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { nodeHost } from '../../src/io/node-host.ts';
import { corruptionBehind } from '../../src/qcow2/corruption.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { OVERLAP_TEMPLATES } from '../../src/qcow2/overlap.ts';
import { Images } from '../support/images.ts';
import { run } from '../support/qemu.ts';

const CLUSTER = 512;
const COPIED = 1n << 63n;
const OFFSET = 0x00ff_ffff_ffff_fe00n;
const BITMAPS = 0x2385_2875;

type Victims = Readonly<Record<string, number>>;

/** Where the structures of the image lie. */
function victimsIn(bytes: Buffer): Victims {
  const pointer = (at: number) => Number(bytes.readBigUInt64BE(at) & OFFSET);
  const [l1, refcountTable, snapshotTable] = [pointer(40), pointer(48), pointer(64)];
  const inactiveL1 = pointer(snapshotTable);
  let extension = bytes.readUInt32BE(100);
  while (bytes.readUInt32BE(extension) !== BITMAPS) {
    extension += 8 + Math.ceil(bytes.readUInt32BE(extension + 4) / 8) * 8;
  }
  return {
    header: 0,
    l1,
    // Of the active state alone, and of the snapshot alone.
    l2: pointer(l1),
    refcountTable,
    refcountBlock: pointer(refcountTable),
    snapshotTable,
    inactiveL1,
    inactiveL2: pointer(inactiveL1),
    bitmapDirectory: pointer(extension + 8 + 16),
  };
}

/** Makes a write hit a place; returns the offset on the disk that has to be written. */
type Attack = (bytes: Buffer, victim: number, places: Victims) => number;

const entry = (bytes: Buffer, at: number, victim: number, flags = COPIED) =>
  bytes.writeBigUInt64BE(flags | BigInt(victim), at);
const setFree = (bytes: Buffer, victim: number, { refcountBlock = 0 }: Victims) =>
  bytes.writeUInt16BE(0, refcountBlock + (victim / CLUSTER) * 2);

const ATTACKS: Readonly<Record<string, Attack>> = {
  'data in place': (bytes, victim, { l1 = 0 }) => {
    const l2 = Number(bytes.readBigUInt64BE(l1 + 8) & OFFSET);
    entry(bytes, l2 + 8, victim);
    return 32768 + CLUSTER;
  },
  'data in a free cluster': (bytes, victim, places) => {
    setFree(bytes, victim, places);
    return 50 * 1024;
  },
  'an L2 table in place': (bytes, victim, { l1 = 0 }) => {
    entry(bytes, l1 + 8 * 5, victim);
    return 5 * 32768 + 63 * CLUSTER;
  },
  'an L2 table in a free cluster': (bytes, victim, places) => {
    setFree(bytes, victim, places);
    return 8 * 32768;
  },
  'a refcount block in place': (bytes, victim, { refcountTable = 0, refcountBlock = 0 }) => {
    for (let at = refcountBlock; at < refcountBlock + CLUSTER; at += 2) {
      if (bytes.readUInt16BE(at) === 0) bytes.writeUInt16BE(1, at);
    }
    entry(bytes, refcountTable + 8, victim, 0n);
    return 50 * 1024;
  },
};

/** Where we find more, or something else of two that are true, or QEMU falls over. */
const DIFFERENT: Readonly<Record<string, RegExp>> = {
  'data in place: header': /^a host cluster of 0/,
  'an L2 table in place: refcountBlock': /overlaps with refcount block|at the same offset/,
  'an L2 table in place: bitmapDirectory': /overlaps with bitmap directory|^none$/,
  'a refcount block in place: bitmapDirectory': /overlaps with bitmap directory|^none$/,
  'an L2 table in a free cluster: l2': /overlaps with active L2 table|^none$/,
  'an L2 table in a free cluster: refcountBlock': /overlaps with refcount block|at the same offset/,
};
/** QEMU fails an assertion: an entry that is COPIED and 0. */
const ABORTS = 'an L2 table in place: header';

async function soundImage(images: Images): Promise<Buffer> {
  const name = 'sound.qcow2';
  await images.create(name, '1M', { options: 'cluster_size=512' });
  await images.io(name, 'write -P 1 0 64k', 'write -P 2 512k 8k');
  await images.qemuImg('snapshot', '-c', 's', name);
  await images.io(name, 'write -P 3 0 48k');
  await images.qemuImg('bitmap', '--add', '--disable', name, 'b');
  const bytes = readFileSync(images.path(name));
  // The directory's cluster need not be there as a whole.
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & (CLUSTER - 1))]);
}

async function wordsOfQemu(file: string, offset: number, template: string): Promise<string> {
  const target = `driver=qcow2,overlap-check=${template},file.filename=${file}`;
  const write = `write -P 9 ${offset} ${CLUSTER}`;
  const { stdout, stderr } = await run('qemu-io', ['-c', write, '--image-opts', target]);
  return /Marking image as corrupt: (.*?);/.exec(stderr + stdout)?.[1] ?? 'none';
}

async function ourWords(
  file: string,
  offset: number,
  template: keyof typeof OVERLAP_TEMPLATES,
): Promise<string> {
  const storage = await nodeHost.openStorage(file, { writable: true });
  const image = await Qcow2Image.open(storage, { guarded: new Set(OVERLAP_TEMPLATES[template]) });
  try {
    await image.write(offset, new Uint8Array(CLUSTER).fill(9));
    await image.flush();
    return 'none';
  } catch (error) {
    const found = corruptionBehind(error);
    if (found === undefined) throw error;
    return found.words;
  } finally {
    await image.close().catch(() => undefined);
  }
}

test.each(['cached', 'all', 'constant', 'none'] as const)('overlap-check=%s', async (template) => {
  const images = new Images();
  const sound = await soundImage(images);
  const victims = victimsIn(sound);
  const [ours, theirs] = [images.path('ours.qcow2'), images.path('theirs.qcow2')];
  let prevented = 0;
  for (const [attack, damage] of Object.entries(ATTACKS)) {
    for (const [victim, place] of Object.entries(victims)) {
      const what = `${attack}: ${victim}`;
      if (what === ABORTS || (template === 'none' && victim === 'header')) continue;
      const damaged = Buffer.from(sound);
      const offset = damage(damaged, place, victims);
      for (const file of [ours, theirs]) writeFileSync(file, damaged);
      const expected = await wordsOfQemu(theirs, offset, template);
      const words = await ourWords(ours, offset, template);
      const [mine, other] = [readFileSync(ours), readFileSync(theirs)];
      const different = DIFFERENT[what];
      if (different) expect(words, what).toMatch(different);
      else {
        expect(words, what).toBe(expected);
        expect(mine.readUInt8(79), what).toBe(other.readUInt8(79));
      }
      if (words === 'none') continue;
      prevented++;
      expect(mine.readUInt8(79), what).toBe(2);
      const kept = place === 0 ? 80 : place;
      const end = place + CLUSTER;
      expect(mine.subarray(kept, end).equals(damaged.subarray(kept, end)), what).toBe(true);
    }
  }
  expect(prevented).toBeGreaterThan({ all: 39, cached: 34, constant: 20, none: 1 }[template]);
});
