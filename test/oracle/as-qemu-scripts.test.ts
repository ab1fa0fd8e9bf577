// What scripts meet beside sound images, through the real qemu-img and through ours: damaged headers
// and snapshot tables, names with colons, images in use, both outputs read through one file.

import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { type Prepare, sideBySide } from '../support/as-qemu.ts';
import { asQemu } from '../support/cli.ts';
import { mustIn, qemuIo } from '../support/qemu.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Hexadecimal bytes by offset. */
type Patch = readonly (readonly [offset: number, hex: string])[];

function patch(file: string, bytes: Patch): void {
  const fd = openSync(file, 'r+');
  for (const [offset, hex] of bytes)
    writeSync(fd, Buffer.from(hex, 'hex'), 0, hex.length / 2, offset);
  closeSync(fd);
}

const BACKING = 8;
const L1 = 40;
const REFCOUNTS = 48;
const SNAPSHOT_COUNT = 60;
const SNAPSHOTS = 64;
const COMPRESSION = 104;

/** New images of 64 MiB with 64 KiB of data, then patched. */
const DAMAGED: Readonly<Record<string, Patch>> = {
  'no-refcounts': [
    [REFCOUNTS, '0000000000000000'],
    [REFCOUNTS + 8, '00000000'],
  ],
  'far-backing': [[BACKING, 'ffffffffffffffff']],
  'far-l1': [[L1, '1234567890abcdef']],
  'far-refcounts': [[REFCOUNTS, '1234567890abcdef']],
  'far-snapshots': [
    [SNAPSHOTS, 'ffffffffffff0000'],
    [SNAPSHOT_COUNT, '00000001'],
  ],
  'too-many': [
    [SNAPSHOTS, '0000000001000000'],
    [SNAPSHOT_COUNT, '00020000'],
  ],
  'past-end': [
    [SNAPSHOTS, '0000000001000000'],
    [SNAPSHOT_COUNT, '00000003'],
  ],
  compression: [[COMPRESSION, '03']],
};

/** Its entries are sound, but go on past 64 MiB. */
function longSnapshotTable(file: string): void {
  const entry = `${'00'.repeat(12)}ffffffff${'00'.repeat(20)}00000400`;
  const length = 40 + KIB + 2 * 0xffff + 2;
  const entries = Array.from({ length: 520 }, (_, i) => [MIB + i * length, entry] as const);
  patch(file, [...entries, [SNAPSHOTS, '0000000000100000'], [SNAPSHOT_COUNT, '00000208']]);
}

const fill: Prepare = async (dir) => {
  const create = (...args: readonly string[]) => mustIn(dir, 'qemu-img', 'create', '-q', ...args);
  const write = (name: string, ...commands: readonly string[]) =>
    qemuIo(name, commands, 'qcow2', dir);
  for (const [name, bytes] of Object.entries(DAMAGED)) {
    await create('-f', 'qcow2', name, '64M');
    await write(name, 'write -P 1 0 64k');
    patch(join(dir, name), bytes);
  }
  await create('-f', 'qcow2', 'extra-data', '64M');
  await mustIn(dir, 'qemu-img', 'snapshot', '-c', 'one', 'extra-data');
  const table = Number(readFileSync(join(dir, 'extra-data')).readBigUInt64BE(SNAPSHOTS));
  patch(join(dir, 'extra-data'), [[table + 36, '00010000']]);
  await create('-f', 'qcow2', 'b.qcow2', '4M');
  await write('b.qcow2', 'write -P 1 0 1M', 'write -c 1M 64k', 'write -P 2 2M 64k');
  await create('-f', 'raw', '-o', 'preallocation=full', 'r.raw', '1M');
  await create('-f', 'qcow2', 'file:top:of.qcow2', '1M');
};

const { both, testLines } = sideBySide(fill);
const ours = asQemu();
afterAll(() => ours.remove());

const CHECKED = ['no-refcounts', 'too-many', 'past-end', 'extra-data'];

testLines(
  [...Object.keys(DAMAGED), 'extra-data']
    .flatMap((name) => [`info ${name}`, `map ${name}`, `check ${name}`])
    .join('\n'),
);
testLines(CHECKED.map((name) => `check --output=json ${name}`).join('\n'));
testLines(`
info file:top:of.qcow2
check file:top:of.qcow2
map file:top:of.qcow2
info file:no:such
map file:no:such
create -f qcow2 file:new:one.qcow2 1M
create -f qcow2 -b file:top:of.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b file:no:such -F qcow2 x.qcow2
commit -b x b.qcow2
commit -b b.qcow2 b.qcow2
map --image-opts driver=raw,offset=64k,size=128k,file.filename=r.raw
map --output=json --image-opts driver=raw,offset=64k,size=128k,file.filename=r.raw
map --output=json --image-opts driver=raw,offset=4k,file.driver=raw,file.offset=64k,file.file.filename=r.raw
info --image-opts driver=qcow2,file.filename=b.qcow2,overlap-check=none,overlap-check.template=all
info --image-opts driver=qcow2,file.filename=b.qcow2,overlap-check=all,overlap-check.template=all
info --image-opts driver=qcow2,file.filename=b.qcow2,overlap-check=no,overlap-check.template=all
info --image-opts driver=qcow2,file.filename=b.qcow2,cache-clean-interval=-1
`);

test.each(['info', 'map', 'check'])('%s of a snapshot table that is too long', async (verb) => {
  const { theirs, mine } = await both([verb, 'past-end'], (dir) =>
    longSnapshotTable(join(dir, 'past-end')),
  );
  expect(mine).toEqual(theirs);
  expect(mine.stderr).toContain('Snapshot table is too big');
});

test.each(['0', '512', '1024', '4096', '5k', '1M'])(
  'a new raw disk of %s has the same holes',
  async (size) => {
    const { theirs, mine, theirDir, myDir } = await both(['create', '-f', 'raw', 'new.raw', size]);
    expect(mine).toEqual(theirs);
    const map = (dir: string) =>
      mustIn(dir, 'qemu-img', 'map', '--output=json', '-f', 'raw', 'new.raw');
    expect(await map(myDir)).toBe(await map(theirDir));
  },
);

test('an image that is written to at the moment can be the backing file of a new one', async () => {
  const writers: ReturnType<typeof spawn>[] = [];
  const inUse: Prepare = async (dir) => {
    const writer = spawn('qemu-io', ['-f', 'qcow2', 'b.qcow2'], { cwd: dir });
    writers.push(writer);
    // Its answer shows that the image is open.
    writer.stdin.write('length\n');
    await new Promise((resolve) => {
      let text = '';
      writer.stdout.on('data', (data) => {
        text += String(data);
        if (text.includes('4 MiB')) resolve(undefined);
      });
    });
  };
  try {
    const line = ['create', '-f', 'qcow2', '-b', 'b.qcow2', '-F', 'qcow2', 'new.qcow2'];
    const { theirs, mine } = await both(line, inUse);
    expect(mine).toEqual(theirs);
    expect(mine.code).toBe(0);
    const probed = await both(line.filter((word) => word !== '-F').toSpliced(5, 1), inUse);
    expect(probed.mine).toEqual(probed.theirs);
  } finally {
    for (const writer of writers) writer.stdin?.end('quit\n');
  }
});

test.each([
  'map b.qcow2',
  'map --output=json b.qcow2',
  'create -f qcow2 -o compression_type=lzo x.qcow2 1M',
  'check no-refcounts',
  'compare r.raw b.qcow2',
  'commit b.qcow2',
])('both outputs in one file: %s', async (line) => {
  const { theirDir, myDir } = await both(['info', 'b.qcow2']);
  const run = (cwd: string, ...words: readonly string[]) =>
    spawnSync('sh', ['-c', '"$0" "$@" 2>&1', ...words, ...line.split(' ')], {
      cwd,
      encoding: 'utf8',
    }).stdout;
  expect(run(myDir, process.execPath, ours.link)).toBe(run(theirDir, 'qemu-img'));
});
