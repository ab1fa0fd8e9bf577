// `check -r` beside qemu-img: the same words, counts and exit codes, and images that are as sound
// and show the guest the same; where QEMU gives up or loses something, better.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Prepare, sideBySide } from '../support/as-qemu.ts';
import { mustIn, type Outcome, qemuIo, run } from '../support/qemu.ts';

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const OFFSET = 0x00ff_ffff_ffff_fe00n;
const CLUSTER = 4096;
const OPTIONS = 'cluster_size=4096';
const SOUND = 'sound.qcow2';
const IMAGE = 'image.qcow2';

/** An image's bytes, and the places of its structures. */
class Parts {
  bytes: Buffer;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
  at(offset: number): bigint {
    return this.bytes.readBigUInt64BE(offset);
  }
  set(offset: number, value: bigint | number): void {
    this.bytes.writeBigUInt64BE(BigInt(value), offset);
  }
  pointer(offset: number): number {
    return Number(this.at(offset) & OFFSET);
  }
  get l1(): number {
    return this.pointer(40);
  }
  get l2(): number {
    return this.pointer(this.l1);
  }
  get refcountTable(): number {
    return this.pointer(48);
  }
  get block(): number {
    return this.pointer(this.refcountTable);
  }
  get snapshots(): number {
    return this.pointer(64);
  }
  refcount(offset: number, count: number): void {
    this.bytes.writeUInt16BE(count, this.block + (offset / CLUSTER) * 2);
  }
  get end(): number {
    return Math.ceil(this.bytes.length / CLUSTER) * CLUSTER;
  }
}

type Damage = (parts: Parts) => void;

/** Put right as QEMU does it, in the same words. */
const REPAIRED: Readonly<Record<string, Damage>> = {
  sound: () => undefined,
  dirty: ({ bytes }) => bytes.writeUInt8(1, 79),
  corrupt: ({ bytes }) => bytes.writeUInt8(2, 79),
  leak: (p) => {
    p.bytes = Buffer.concat([p.bytes, Buffer.alloc(2 * CLUSTER, 7)]);
    p.refcount(p.end - CLUSTER, 1);
  },
  high: (p) => p.refcount(p.l2, 3),
  low: (p) => p.refcount(p.l2 + CLUSTER, 1),
  zero: (p) => p.refcount(0, 0),
  'lost-block': (p) => p.set(p.refcountTable, 0),
  'lost-table': (p) => p.bytes.fill(0, p.refcountTable, p.refcountTable + CLUSTER),
  'far-table': (p) => p.set(48, 0x0400_0000_0000_1000n),
  'no-table': (p) => p.bytes.writeUInt32BE(0, 56),
  'block-outside': (p) => p.set(p.refcountTable, p.end + 8 * CLUSTER),
  'block-twice': (p) => p.set(p.refcountTable + 8, p.block),
  copied: (p) => {
    p.set(p.l1, p.at(p.l1) & ~COPIED);
    p.set(p.l2, p.at(p.l2) & ~COPIED);
    p.set(p.l2 + 40 * 8, p.at(p.l2 + 40 * 8) | COPIED);
  },
  'zeros-unaligned': (p) => p.set(p.l2 + 8, p.at(p.l2 + 8) | 513n),
  'data-unaligned': (p) => p.set(p.l2 + 8, p.at(p.l2 + 8) | 512n),
  'data-past-end': (p) => p.set(p.l2 + 8, COPIED | BigInt(p.end + 16 * CLUSTER)),
  'data-over-block': (p) => p.set(p.l2 + 8, COPIED | BigInt(p.block)),
  'data-over-table': (p) => p.set(p.l2 + 8, COPIED | BigInt(p.refcountTable)),
  'data-over-l1': (p) => p.set(p.l2 + 8, COPIED | BigInt(p.l1)),
  'data-over-l2': (p) => p.set(p.l2 + 8, COPIED | BigInt(p.l2)),
  'data-over-snapshots': (p) => p.set(p.l2 + 8, COPIED | BigInt(p.snapshots)),
  'data-over-data': (p) => p.set(p.l2 + 8, p.at(p.l2)),
  'compressed-copied': (p) => p.set(p.l2 + 64 * 8, p.at(p.l2 + 64 * 8) | COPIED),
  'compressed-anywhere': (p) => p.set(p.l2 + 8, COMPRESSED | BigInt(p.l2 + 100)),
  'l2-reserved': (p) => p.set(p.l2 + 8, p.at(p.l2 + 8) | 2n),
  'l1-reserved': (p) => p.set(p.l1, p.at(p.l1) | 2n),
  'l1-past-end': (p) => p.set(p.l1, COPIED | BigInt(p.end + 16 * CLUSTER)),
  'l1-lost': (p) => p.bytes.fill(0, p.l1, p.l1 + CLUSTER),
  'snapshot-incomplete': (p) => p.bytes.writeUInt32BE(8, p.snapshots + 36),
  'snapshot-extra': (p) => p.bytes.writeUInt32BE(2000, p.snapshots + 36),
  'snapshot-l1': (p) => p.set(p.snapshots, 512),
  'snapshot-l1-far': (p) => p.set(p.snapshots, 0x0909_0909_0909_0000n),
  'snapshot-l1-far-empty': (p) => {
    p.set(p.snapshots, 0x0909_0909_0909_0000n);
    p.bytes.writeUInt32BE(0, p.snapshots + 8);
  },
  'snapshot-l1-far-unaligned': (p) => p.set(p.snapshots, 0x0020_0000_0000_0200n),
  // The header is taken for an L2 table, which makes the active L1 table a cluster of data, too.
  'snapshot-l2-is-header': (p) => {
    p.set(p.pointer(p.snapshots), COPIED);
    p.set(p.l1, p.at(p.l1) & ~COPIED);
  },
  'no-snapshots': (p) => p.bytes.writeUInt32BE(0, 60),
  // As a fast emptying that was killed leaves it.
  'half-emptied': (p) => {
    p.bytes.writeUInt8(1, 79);
    p.bytes.fill(0, CLUSTER, 4 * CLUSTER);
    p.set(48, CLUSTER);
    p.set(40, 3 * CLUSTER);
    p.bytes.writeUInt32BE(0, 60);
  },
  'half-emptied-cut': (p) => {
    p.bytes.writeUInt8(1, 79);
    p.bytes = p.bytes.subarray(0, 4 * CLUSTER);
    p.bytes.fill(0, CLUSTER);
    p.set(48, CLUSTER);
    p.set(40, 3 * CLUSTER);
    p.bytes.writeUInt32BE(0, 60);
  },
  cut: (p) => {
    p.bytes = p.bytes.subarray(0, p.end - 3 * CLUSTER);
  },
};

/** QEMU gives up on these, or marks them corrupt itself. */
const BETTER: Readonly<Record<string, Damage>> = {
  'block-unaligned': (p) => p.set(p.refcountTable, p.block + 512),
  'block-reserved': (p) => p.set(p.refcountTable, p.block + 1),
  'l2-over-l1': (p) => p.set(p.l1, COPIED | BigInt(p.l1)),
};

const { both } = sideBySide(async (dir) => {
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', OPTIONS, SOUND, '1M');
  const before = ['write -P 1 0 64k', 'write -P 2 512k 8k', 'write -P 5 128k 8k'];
  await qemuIo(SOUND, before, 'qcow2', dir);
  await mustIn(dir, 'qemu-img', 'snapshot', '-c', 's', SOUND);
  await qemuIo(SOUND, ['write -P 3 0 16k', 'write -c -P 6 256k 4k'], 'qcow2', dir);
});

const put =
  (damage: Damage): Prepare =>
  (dir) => {
    const parts = new Parts(readFileSync(join(dir, SOUND)));
    damage(parts);
    writeFileSync(join(dir, IMAGE), parts.bytes);
  };

/** Where new structures lie, and so where the image ends, is each one's own affair. */
const steady = ({ code, stdout, stderr }: Outcome) => {
  const text = stdout.replace(/(Image end offset: |"image-end-offset": )\d+/, '$1');
  return { code, stdout: text, stderr };
};

/** What a check finds in what was left. */
async function leftIn(dir: string): Promise<Outcome> {
  return steady(await run('qemu-img', ['check', IMAGE], { cwd: dir }));
}

async function expectSameRepair(name: string, damage: Damage, ...args: string[]): Promise<void> {
  const { theirs, mine, theirDir, myDir } = await both(['check', ...args, IMAGE], put(damage));
  expect(steady(mine), name).toEqual(steady(theirs));
  expect(await leftIn(myDir), name).toEqual(await leftIn(theirDir));
  await put(damage)(theirDir);
  const images = [join(myDir, IMAGE), join(theirDir, IMAGE)];
  const compared = await run('qemu-img', ['compare', ...images]);
  // Entries that make no sense keep it from being read, before and after.
  if (compared.code > 1)
    expect(compared.stderr).toMatch(
      /unaligned|Error while reading|extra metadata|reference count table/,
    );
  else expect(compared.code, name).toBe(0);
}

test.concurrent.each(Object.entries(REPAIRED))('-r all: %s', (name, damage) =>
  expectSameRepair(name, damage, '-r', 'all'),
);

const LEAKS = ['sound', 'leak', 'high', 'low', 'zero', 'copied', 'data-past-end', 'lost-block'];

test.concurrent.each([...LEAKS, 'zeros-unaligned', 'snapshot-incomplete', 'snapshot-extra'])(
  '-r leaks: %s',
  (name) => expectSameRepair(name, REPAIRED[name] ?? (() => undefined), '-r', 'leaks'),
);

test.concurrent.each([
  ['low', '-r', 'all', '--output=json'],
  ['leak', '-r', 'all', '--output=json'],
  ['data-past-end', '-r', 'all', '--output=json'],
  ['copied', '-r', 'leaks', '--output=json'],
  ['zero', '-r', 'all', '-q'],
  ['leak', '-U', '-r', 'all'],
  ['leak', '-r', 'some'],
  ['leak', '-r', 'all', '-f', 'raw'],
])('%s: check %s %s %s', (name, ...args) =>
  expectSameRepair(name, REPAIRED[name] ?? (() => undefined), ...args),
);

test.concurrent.each(Object.entries(BETTER))(
  '%s: repaired where QEMU gives up',
  async (_, damage) => {
    const { theirs, mine, myDir } = await both(['check', '-r', 'all', IMAGE], put(damage));
    expect(theirs.code).toBe(1);
    expect(mine.code).toBe(0);
    expect(await leftIn(myDir)).toMatchObject({ code: 0 });
  },
);

test.each(['active', 'inactive'])(
  'zeros misplaced in the header, which an %s L1 entry takes for an L2 table, stay',
  async (which) => {
    const prepare = put((p) => {
      p.set(which === 'active' ? p.l1 : p.pointer(p.snapshots), COPIED);
      // Behind the extensions, where nobody looks: misplaced zeros.
      p.set(2048, 0x1201n);
    });
    const { myDir } = await both(['check', '-r', 'all', IMAGE], async (dir) => {
      await prepare(dir);
      await mustIn(dir, 'qemu-img', 'convert', '--salvage', '-O', 'raw', IMAGE, 'before.raw');
    });
    await mustIn(myDir, 'qemu-img', 'convert', '--salvage', '-O', 'raw', IMAGE, 'after.raw');
    const [before, after] = ['before.raw', 'after.raw'].map((f) => readFileSync(join(myDir, f)));
    expect(before !== undefined && after?.equals(before)).toBe(true);
  },
);

test('a dirty image whose refcounts stay wrong is not called clean', async () => {
  const damage = REPAIRED['half-emptied'] ?? (() => undefined);
  const { theirs, mine, theirDir, myDir } = await both(
    ['check', '-r', 'leaks', IMAGE],
    put(damage),
  );
  expect(steady(mine)).toEqual(steady(theirs));
  const dirty = (dir: string) => (readFileSync(join(dir, IMAGE))[79] ?? 0) & 1;
  expect([dirty(theirDir), dirty(myDir)]).toEqual([0, 1]);
});

test('snapshots of an image with bitmaps survive', async () => {
  const prepare: Prepare = async (dir) => {
    await put(REPAIRED['leak'] ?? (() => undefined))(dir);
    await mustIn(dir, 'qemu-img', 'bitmap', '--add', IMAGE, 'b');
  };
  const { theirDir, myDir } = await both(['check', '-r', 'all', IMAGE], prepare);
  const list = (dir: string) => run('qemu-img', ['snapshot', '-l', IMAGE], { cwd: dir });
  expect((await list(theirDir)).stdout).toBe('');
  expect((await list(myDir)).stdout).toContain('s ');
  expect(await leftIn(myDir)).toMatchObject({ code: 0 });
});
