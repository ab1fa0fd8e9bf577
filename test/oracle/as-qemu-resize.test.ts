// resize, started as qemu-img, beside the real one: words, exit codes, and the image that comes out.

import { createHash } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { sideBySide, wordsOf } from '../support/as-qemu.ts';
import { mustIn, qemuIo, run } from '../support/qemu.ts';

const BITMAPS_EXTENSION = Buffer.from([0x23, 0x85, 0x28, 0x75]);

/** Flags of the first bitmap in the directory: "in use". */
function markInUse(bytes: Buffer): void {
  const at = bytes.indexOf(BITMAPS_EXTENSION) + 8;
  const directory = Number(bytes.readBigUInt64BE(at + 16));
  bytes.writeUInt32BE(bytes.readUInt32BE(directory + 12) | 1, directory + 12);
}

async function fill(dir: string): Promise<void> {
  const img = (...args: readonly string[]) => mustIn(dir, 'qemu-img', ...args);
  const create = (name: string, size: string, ...options: readonly string[]) =>
    img('create', '-q', '-f', 'qcow2', ...options, name, size);
  const write = (name: string, ...commands: readonly string[]) =>
    qemuIo(name, commands, 'qcow2', dir);
  await img('create', '-q', '-f', 'raw', 'base.raw', '4M');
  await qemuIo('base.raw', ['write -P 9 0 4M'], 'raw', dir);
  await create('a.qcow2', '1M');
  await write('a.qcow2', 'write -P 1 0 100k', 'write -P 2 500k 524k');
  await create('ragged.qcow2', '1000k');
  await write('ragged.qcow2', 'write -P 1 900k 100k');
  await create('empty.qcow2', '1000k');
  await create('packed.qcow2', '1M');
  await write(
    'packed.qcow2',
    'write -c -P 1 0 64k',
    'write -c -P 2 512k 64k',
    'write -P 3 960k 64k',
  );
  await create('small.qcow2', '1M', '-o', 'cluster_size=512');
  await write('small.qcow2', 'write -P 1 0 1M');
  await create('bit.qcow2', '1M', '-o', 'cluster_size=512,refcount_bits=1');
  await write('bit.qcow2', 'write -P 1 0 1M');
  await create('sub.qcow2', '1000k', '-o', 'extended_l2=on,cluster_size=64k');
  await write('sub.qcow2', 'write -P 1 900k 40k', 'write -P 1 100k 9k');
  await create('old.qcow2', '1000k', '-o', 'compat=0.10');
  await write('old.qcow2', 'write -P 1 900k 100k');
  await create('oldsnap.qcow2', '1M', '-o', 'compat=0.10');
  await img('snapshot', '-c', 's', 'oldsnap.qcow2');
  await create('snap.qcow2', '1M', '-o', 'cluster_size=4k');
  await write('snap.qcow2', 'write -P 1 0 1M');
  await img('snapshot', '-c', 's', 'snap.qcow2');
  await write('snap.qcow2', 'write -P 2 300k 400k');
  await create('bits.qcow2', '1M');
  for (const [name, ...options] of [['x'], ['off', '--disable'], ['fine', '-g', '1024']]) {
    await img('bitmap', '--add', ...options, 'bits.qcow2', name ?? '');
  }
  await write('bits.qcow2', 'write -P 1 512k 512k');
  await create('finebits.qcow2', '8M', '-o', 'cluster_size=512');
  await img('bitmap', '--add', '-g', '512', 'finebits.qcow2', 'x');
  await write('finebits.qcow2', 'write -P 1 1M 6M');
  const broken = readFileSync(join(dir, 'bits.qcow2'));
  markInUse(broken);
  writeFileSync(join(dir, 'broken.qcow2'), broken);
  for (const [name, ...options] of [
    ['over.qcow2'],
    ['oversub.qcow2', 'extended_l2=on,cluster_size=64k'],
    ['overold.qcow2', 'compat=0.10'],
  ]) {
    const more = options.flatMap((each) => ['-o', each]);
    await create(name ?? '', '1000k', ...more, '-b', 'base.raw', '-F', 'raw');
    await write(name ?? '', 'write -P 1 900k 50k');
  }
  await create('lost.qcow2', '1M', '-u', '-b', 'nothere.raw', '-F', 'raw');
  await create('data.qcow2', '1M', '-o', 'data_file=data.raw');
  await write('data.qcow2', 'write -P 1 0 1M');
  await create('rawdata.qcow2', '1M', '-o', 'data_file=rawdata.raw,data_file_raw=on');
  await write('rawdata.qcow2', 'write -P 1 0 1M');
  await img('create', '-q', '-f', 'raw', 'r.raw', '1M');
  await qemuIo('r.raw', ['write -P 3 0 1M'], 'raw', dir);
  writeFileSync(join(dir, 'odd.raw'), Buffer.alloc(1000, 5));
  await create('locked.qcow2', '1M', '--object', 'secret,id=s,data=abc', '-o', LUKS);
  const corrupt = readFileSync(join(dir, 'a.qcow2'));
  corrupt.writeUInt8(2, 79);
  writeFileSync(join(dir, 'corrupt.qcow2'), corrupt);
  await create('dirty.qcow2', '1M', '-o', 'lazy_refcounts=on');
  const killed = ['-c', 'write -P 1 0 64k', '-c', 'flush', '-c', 'abort', 'dirty.qcow2'];
  await run('qemu-io', killed, { cwd: dir }).catch(() => undefined);
}

const LUKS = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
const KEY = '--object secret,id=s,data=abc --image-opts';
const LOCKED = 'driver=qcow2,file.filename=locked.qcow2,encrypt.key-secret=s';

const { testLines, testDifferences, both } = sideBySide(fill);

describe('the command line', () => {
  testLines(`
resize
resize a.qcow2
resize a.qcow2 -h
resize a.qcow2 --help
resize 2M a.qcow2
resize a.qcow2 2M 3M
resize a.qcow2 ragged.qcow2 2M
resize a.qcow2 2M -q
resize a.qcow2 -q 2M
resize -q a.qcow2 +1M
resize a.qcow2 +1M
resize a.qcow2 -1M
resize a.qcow2 -512k
resize --shrink a.qcow2 -512k
resize a.qcow2 --shrink -- -512k
resize --shrink -q a.qcow2 -512k
resize --shr a.qcow2 512k
resize --shrink=yes a.qcow2 512k
resize --foo a.qcow2 512k
resize -Z a.qcow2 512k
resize -f a.qcow2 2M
resize -f qcow2 a.qcow2 2M
resize -f raw a.qcow2 +1M
resize -f foo a.qcow2 2M
resize --format qcow2 a.qcow2 2M
resize --quiet a.qcow2 2M
resize --force a.qcow2 2M
resize --image-opts driver=qcow2,file.filename=a.qcow2 2M
resize --image-opts -f qcow2 a.qcow2 2M
resize --image-opts driver=qcow2,file.filename=a.qcow2,read-only=on 2M
resize --object foo a.qcow2 2M
resize --object secret,id=s,data=x a.qcow2 2M
resize --preallocation a.qcow2 2M
resize --preallocation=foo a.qcow2 2M
resize --preallocation=foo
resize --preallocation full a.qcow2 2M
resize --prealloc=metadata a.qcow2 2M
resize --preallocation=full a.qcow2 1M
resize --preallocation=full a.qcow2 512k
resize --preallocation=off --shrink a.qcow2 512k
resize --shrink --preallocation=metadata a.qcow2 512k
resize nope 2M
resize nope x
resize '' 2M
resize corrupt.qcow2 2M
resize lost.qcow2 2M
`);
});

describe('sizes', () => {
  testLines(`
resize a.qcow2 x
resize a.qcow2 -x
resize a.qcow2 ''
resize a.qcow2 +
resize a.qcow2 -
resize a.qcow2 5Mx
resize a.qcow2 +-1M
resize a.qcow2 ++1M
resize a.qcow2 ' 5M'
resize a.qcow2 0
resize a.qcow2 +0
resize a.qcow2 -0
resize a.qcow2 -1M
resize --shrink a.qcow2 -1M
resize --shrink a.qcow2 -5G
resize a.qcow2 1M
resize a.qcow2 1048576
resize a.qcow2 1048576b
resize a.qcow2 1.5M
resize a.qcow2 2000001
resize a.qcow2 +1
resize a.qcow2 +511
resize --shrink a.qcow2 -1
resize a.qcow2 0x400000
resize a.qcow2 0x4M
resize a.qcow2 9E
resize a.qcow2 +9E
resize a.qcow2 +16E
resize a.qcow2 18446744073709551615
resize a.qcow2 64P
`);
});

describe('larger', () => {
  testLines(`
resize ragged.qcow2 6M
resize --preallocation=metadata ragged.qcow2 6M
resize --preallocation=falloc ragged.qcow2 6M
resize --preallocation=full ragged.qcow2 6M
resize ragged.qcow2 1001k
resize --preallocation=full ragged.qcow2 1001k
resize empty.qcow2 6M
resize --preallocation=metadata empty.qcow2 6M
resize --preallocation=falloc empty.qcow2 6M
resize --preallocation=full empty.qcow2 1001k
resize small.qcow2 20M
resize bit.qcow2 20M
resize --preallocation=metadata small.qcow2 20M
resize --preallocation=full bit.qcow2 4M
resize --preallocation=metadata sub.qcow2 6M
resize --preallocation=falloc sub.qcow2 6M
resize sub.qcow2 6M
resize old.qcow2 6M
resize --preallocation=metadata old.qcow2 6M
resize --preallocation=falloc old.qcow2 6M
resize --preallocation=full old.qcow2 6M
resize over.qcow2 6M
resize over.qcow2 2M
resize --preallocation=metadata over.qcow2 6M
resize --preallocation=falloc over.qcow2 6M
resize --preallocation=full over.qcow2 6M
resize oversub.qcow2 6M
resize --preallocation=metadata oversub.qcow2 6M
resize --preallocation=falloc oversub.qcow2 6M
resize --preallocation=full oversub.qcow2 6M
resize --preallocation=falloc overold.qcow2 6M
resize --preallocation=full overold.qcow2 6M
resize packed.qcow2 6M
resize snap.qcow2 6M
resize bits.qcow2 3M
resize finebits.qcow2 300M
resize locked.qcow2 3M
`);
});

describe('smaller', () => {
  testLines(`
resize --shrink a.qcow2 512k
resize --shrink a.qcow2 100k
resize --shrink a.qcow2 512
resize --shrink ragged.qcow2 999k
resize --shrink ragged.qcow2 64k
resize --shrink packed.qcow2 512k
resize --shrink packed.qcow2 32k
resize --shrink small.qcow2 500k
resize --shrink small.qcow2 1k
resize --shrink bit.qcow2 333k
resize --shrink sub.qcow2 910k
resize --shrink sub.qcow2 105k
resize --shrink old.qcow2 910k
resize --shrink over.qcow2 910k
resize --shrink snap.qcow2 512k
resize --shrink snap.qcow2 2k
resize --shrink bits.qcow2 585k
resize --shrink bits.qcow2 599552
resize --shrink finebits.qcow2 3M
`);
});

describe('what keeps its size', () => {
  testLines(`
resize oldsnap.qcow2 2M
resize oldsnap.qcow2 1M
resize oldsnap.qcow2 2000001
resize --shrink oldsnap.qcow2 512k
resize broken.qcow2 2M
resize --shrink broken.qcow2 512k
resize broken.qcow2 1M
`);
});

describe('raw', () => {
  testLines(`
resize r.raw 2M
resize -f raw r.raw 2M
resize -f raw r.raw 512k
resize -f raw --shrink r.raw 512k
resize -f raw --preallocation=metadata r.raw 2M
resize -f raw --preallocation=falloc r.raw 2M
resize -f raw --preallocation=full r.raw 2M
resize -f raw --preallocation=off r.raw 2M
resize -f raw odd.raw 2000
resize -f raw odd.raw 1000
resize -f raw odd.raw +1
resize -f raw --shrink odd.raw -1
resize -f raw --preallocation=full odd.raw 3000
resize -f raw r.raw 7E
resize -f raw r.raw 20E
resize --image-opts driver=raw,file.filename=r.raw,size=512k 2M
resize --image-opts driver=raw,file.filename=r.raw,size=512k --preallocation=metadata 2M
resize --image-opts driver=raw,file.filename=r.raw,offset=512k 2M
resize --image-opts driver=raw,file.filename=r.raw,offset=512k --shrink 256k
resize --image-opts driver=file,filename=r.raw 2M
resize --image-opts driver=null-co,size=1M 2M
`);

  test.each([
    '-f raw odd.raw 2000',
    '-f raw odd.raw +1',
    '-f raw --shrink odd.raw -1',
    '-f raw --preallocation=falloc odd.raw 70001',
    '--image-opts driver=raw,file.filename=odd.raw,offset=512 2000',
  ])('as many bytes: %s', async (line) => {
    const { theirDir, myDir } = await both(['resize', ...wordsOf(line)]);
    const [theirs, mine] = [theirDir, myDir].map((dir) => readFileSync(join(dir, 'odd.raw')));
    expect(mine?.equals(theirs ?? Buffer.alloc(0))).toBe(true);
  });
});

/** What the guest is told of its clusters, wherever they lie. */
async function mapOf(dir: string, name: string): Promise<string> {
  const { stdout } = await run('qemu-img', ['map', '--output=json', name], { cwd: dir });
  const merged: { kind: string; start: number; end: number }[] = [];
  for (const { start, length, offset, ...rest } of JSON.parse(stdout)) {
    const kind = JSON.stringify({ ...rest, placed: offset !== undefined });
    const last = merged.at(-1);
    if (last?.kind === kind) last.end = start + length;
    else merged.push({ kind, start, end: start + length });
  }
  return merged.map((each) => JSON.stringify(each)).join('\n');
}

test.each([
  ['ragged.qcow2', '6M', 'metadata'],
  ['ragged.qcow2', '6M', 'falloc'],
  ['sub.qcow2', '6M', 'metadata'],
  ['old.qcow2', '6M', 'full'],
  ['over.qcow2', '3M', 'off'],
  ['over.qcow2', '6M', 'metadata'],
  ['over.qcow2', '6M', 'falloc'],
  ['oversub.qcow2', '6M', 'metadata'],
  ['overold.qcow2', '6M', 'full'],
  ['data.qcow2', '6M', 'falloc'],
  ['rawdata.qcow2', '6M', 'off'],
  ['snap.qcow2', '300k', 'off'],
] as const)('the same map: %s %s %s', async (name, size, mode) => {
  const args = ['resize', '--shrink', `--preallocation=${mode}`, name, size];
  const { theirDir, myDir } = await both(args);
  expect(await mapOf(myDir, name)).toBe(await mapOf(theirDir, name));
});

/** Size, clusters in use and guest data, by QEMU, in each one's own directory. */
async function stateOf(dir: string, name: string, images: readonly string[]): Promise<unknown> {
  const opts = (file: string) => (name === file ? [file] : [...KEY.split(' '), file]);
  const info = await run('qemu-img', ['info', '--output=json', name], { cwd: dir });
  const check = await run('qemu-img', ['check', '--output=json', name], { cwd: dir });
  const { leaks, corruptions, 'allocated-clusters': allocated } = JSON.parse(check.stdout);
  await mustIn(dir, 'qemu-img', 'convert', '-O', 'raw', ...opts(images[0] ?? name), 'view');
  const size = JSON.parse(info.stdout)['virtual-size'];
  return { size, leaks, corruptions, allocated, view: hash(join(dir, 'view')) };
}

const hash = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');

describe('images that are opened in their own directory', () => {
  test.each([
    'data.qcow2 6M',
    'data.qcow2 6M --preallocation=metadata',
    'data.qcow2 6M --preallocation=falloc',
    'data.qcow2 6M --preallocation=full',
    'data.qcow2 65k',
    'rawdata.qcow2 6M',
    'rawdata.qcow2 6M --preallocation=full',
    'rawdata.qcow2 65k',
  ])('%s', async (line) => {
    const [name = '', size = '', ...options] = line.split(' ');
    const args = ['resize', '--shrink', ...options, name, size];
    const { theirs, mine, theirDir, myDir } = await both(args);
    expect(mine).toEqual(theirs);
    expect(await stateOf(myDir, name, [name])).toEqual(await stateOf(theirDir, name, [name]));
    const file = name.replace('.qcow2', '.raw');
    expect(hash(join(myDir, file))).toBe(hash(join(theirDir, file)));
  });

  test.each(['3M', '512k'])('encrypted, %s', async (size) => {
    const args = ['resize', '--shrink', ...KEY.split(' '), LOCKED, size];
    const { theirs, mine, theirDir, myDir } = await both(args);
    expect(mine).toEqual(theirs);
    const [theirState, myState] = await Promise.all(
      [theirDir, myDir].map((dir) => stateOf(dir, 'locked.qcow2', [LOCKED])),
    );
    expect(myState).toEqual(theirState);
  });

  test('dirty: rebuilt without words', async () => {
    const { mine, myDir } = await both(['resize', 'dirty.qcow2', '3M']);
    expect(mine).toEqual({ code: 0, stdout: 'Image resized.\n', stderr: '' });
    expect(await stateOf(myDir, 'dirty.qcow2', ['dirty.qcow2'])).toMatchObject({
      ...{ size: 3 * 1024 * 1024, leaks: undefined, corruptions: undefined },
    });
  });
});

test('a data file longer than its disk is cut, as by QEMU', async () => {
  const { theirDir, myDir } = await both(['resize', 'data.qcow2', '2M'], (dir) =>
    truncateSync(join(dir, 'data.raw'), 4_000_000),
  );
  const lengths = [theirDir, myDir].map((dir) => readFileSync(join(dir, 'data.raw')).length);
  expect(lengths[1]).toBe(lengths[0]);
});

testDifferences([['resize overold.qcow2 6M', 'QEMU leaves its zeros to a guess']]);
