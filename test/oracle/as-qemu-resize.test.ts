// resize, started as qemu-img, beside the real one: words, exit codes, and the image that comes out.

import { createHash } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { sideBySide, wordsOf } from '../support/as-qemu.ts';
import { bitmapsIn, changeBitmaps } from '../support/bitmaps.ts';
import { encryptedFile, luks } from '../support/encrypted.ts';
import { mustIn, qemuIo, run } from '../support/qemu.ts';

/** The last byte of the incompatible features; bit 1 is "corrupt". */
const FEATURES = 79;
/** Of a bitmap, in its entry of the directory. */
const FLAGS = 12;
const IN_USE = 1;
const KEY = '--object secret,id=s,data=geheim --image-opts';
const LOCKED = 'driver=qcow2,file.filename=locked.qcow2,encrypt.key-secret=s';

type Options = readonly string[];

/** What makes the images, for the groups that want them: each line gets a copy of all of its group's. */
const MAKERS: Readonly<Record<string, (make: Maker) => Promise<void>>> = {
  async 'a.qcow2'({ create, write }) {
    await create('1M');
    await write('write -P 1 0 100k', 'write -P 2 500k 524k');
  },
  async 'ragged.qcow2'({ create, write }) {
    await create('1000k');
    await write('write -P 1 900k 100k');
  },
  async 'empty.qcow2'({ create }) {
    await create('1000k');
  },
  async 'packed.qcow2'({ create, write }) {
    await create('1M');
    await write('write -c -P 1 0 64k', 'write -c -P 2 512k 64k', 'write -P 3 960k 64k');
  },
  async 'small.qcow2'({ create, write }) {
    await create('300k', '-o', 'cluster_size=512');
    await write('write -P 1 0 300k');
  },
  async 'bit.qcow2'({ create, write }) {
    await create('300k', '-o', 'cluster_size=512,refcount_bits=1');
    await write('write -P 1 0 300k');
  },
  async 'sub.qcow2'({ create, write }) {
    await create('1000k', '-o', 'extended_l2=on,cluster_size=64k');
    await write('write -P 1 900k 40k', 'write -P 1 100k 9k');
  },
  async 'old.qcow2'({ create, write }) {
    await create('1000k', '-o', 'compat=0.10');
    await write('write -P 1 900k 100k');
  },
  async 'oldsnap.qcow2'({ create, img }) {
    await create('1M', '-o', 'compat=0.10');
    await img('snapshot', '-c', 's', 'oldsnap.qcow2');
  },
  async 'snap.qcow2'({ create, write, img }) {
    await create('600k', '-o', 'cluster_size=4k');
    await write('write -P 1 0 600k');
    await img('snapshot', '-c', 's', 'snap.qcow2');
    await write('write -P 2 200k 300k');
  },
  async 'bits.qcow2'({ create, write, img }) {
    await create('1M');
    await img('bitmap', '--add', 'bits.qcow2', 'x');
    await img('bitmap', '--add', '--disable', 'bits.qcow2', 'off');
    await img('bitmap', '--add', '-g', '1024', 'bits.qcow2', 'fine');
    await write('write -P 1 512k 512k');
  },
  async 'finebits.qcow2'({ create, write, img }) {
    await create('8M', '-o', 'cluster_size=512');
    await img('bitmap', '--add', '-g', '512', 'finebits.qcow2', 'x');
    await write('write -P 1 3000k 200k', 'write -P 1 6M 64k');
  },
  async 'broken.qcow2'({ dir, create, img }) {
    await create('1M');
    await img('bitmap', '--add', 'broken.qcow2', 'x');
    changeBitmaps(join(dir, 'broken.qcow2'), (bytes, { entry }) => {
      bytes.writeUInt32BE(bytes.readUInt32BE(entry + FLAGS) | IN_USE, entry + FLAGS);
    });
  },
  'over.qcow2': (make) => overlay(make),
  'oversub.qcow2': (make) => overlay(make, '-o', 'extended_l2=on,cluster_size=64k'),
  'overold.qcow2': (make) => overlay(make, '-o', 'compat=0.10'),
  async 'lost.qcow2'({ create }) {
    await create('1M', '-u', '-b', 'nothere.raw', '-F', 'raw');
  },
  async 'data.qcow2'({ create, write }) {
    await create('1M', '-o', 'data_file=data.raw');
    await write('write -P 1 0 1M');
  },
  async 'rawdata.qcow2'({ create, write }) {
    await create('1M', '-o', 'data_file=rawdata.raw,data_file_raw=on');
    await write('write -P 1 0 1M');
  },
  async 'r.raw'({ dir, img }) {
    await img('create', '-q', '-f', 'raw', 'r.raw', '1M');
    await qemuIo('r.raw', ['write -P 3 0 1M'], 'raw', dir);
  },
  async 'odd.raw'({ dir }) {
    writeFileSync(join(dir, 'odd.raw'), Buffer.alloc(1000, 5));
  },
  async 'locked.qcow2'({ dir }) {
    await encryptedFile(join(dir, 'locked.qcow2'), { size: 1024 * 1024, encryption: luks() });
  },
  async 'corrupt.qcow2'({ create, change }) {
    await create('1M');
    change((bytes) => bytes.writeUInt8(2, FEATURES));
  },
  async 'dirty.qcow2'({ dir, create }) {
    await create('1M', '-o', 'lazy_refcounts=on');
    const killed = ['-c', 'write -P 1 0 64k', '-c', 'flush', '-c', 'abort', 'dirty.qcow2'];
    await run('qemu-io', killed, { cwd: dir }).catch(() => undefined);
  },
};

interface Maker {
  readonly dir: string;
  img(...args: Options): Promise<unknown>;
  create(size: string, ...options: Options): Promise<unknown>;
  write(...commands: Options): Promise<unknown>;
  change(edit: (bytes: Buffer) => void): void;
}

/** Over a backing file that is four times as long. */
async function overlay({ dir, img, create, write }: Maker, ...options: Options): Promise<void> {
  await img('create', '-q', '-f', 'raw', 'base.raw', '4M');
  await qemuIo('base.raw', ['write -P 9 0 100k', 'write -P 9 900k 3196k'], 'raw', dir);
  await create('1000k', ...options, '-b', 'base.raw', '-F', 'raw');
  await write('write -P 1 900k 50k');
}

/** To be called in a group of tests. */
function withImages(...names: Options) {
  return sideBySide(async (dir) => {
    const img = (...args: Options) => mustIn(dir, 'qemu-img', ...args);
    for (const name of names) {
      const file = join(dir, name);
      await MAKERS[name]?.({
        dir,
        img,
        create: (size, ...options) => img('create', '-q', '-f', 'qcow2', ...options, name, size),
        write: (...commands) => qemuIo(name, commands, 'qcow2', dir),
        change(edit) {
          const bytes = readFileSync(file);
          edit(bytes);
          writeFileSync(file, bytes);
        },
      });
    }
  });
}

describe('the command line', () => {
  const { testLines } = withImages('a.qcow2', 'ragged.qcow2', 'corrupt.qcow2', 'lost.qcow2');
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
  const { testLines } = withImages('a.qcow2');
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
  describe.each([
    [
      'ragged.qcow2',
      [
        '6M',
        '--preallocation=metadata 6M',
        '--preallocation=falloc 6M',
        '--preallocation=full 6M',
        '1001k',
        '--preallocation=full 1001k',
      ],
    ],
    [
      'empty.qcow2',
      [
        '6M',
        '--preallocation=metadata 6M',
        '--preallocation=falloc 6M',
        '--preallocation=full 1001k',
      ],
    ],
    ['small.qcow2', ['20M', '--preallocation=metadata 20M']],
    ['bit.qcow2', ['20M', '--preallocation=full 4M']],
    ['sub.qcow2', ['--preallocation=metadata 6M', '--preallocation=falloc 6M', '6M']],
    [
      'old.qcow2',
      ['6M', '--preallocation=metadata 6M', '--preallocation=falloc 6M', '--preallocation=full 6M'],
    ],
    [
      'over.qcow2',
      [
        '6M',
        '2M',
        '--preallocation=metadata 6M',
        '--preallocation=falloc 6M',
        '--preallocation=full 6M',
      ],
    ],
    [
      'oversub.qcow2',
      ['6M', '--preallocation=metadata 6M', '--preallocation=falloc 6M', '--preallocation=full 6M'],
    ],
    ['overold.qcow2', ['--preallocation=falloc 6M', '--preallocation=full 6M']],
    ['packed.qcow2', ['6M']],
    ['snap.qcow2', ['6M']],
    ['bits.qcow2', ['3M']],
    ['finebits.qcow2', ['300M']],
    ['locked.qcow2', ['3M']],
  ])('%s', (name, sizes) => {
    const { testLines } = withImages(name);
    testLines(sizes.map((size) => `resize ${name} ${size}`).join('\n'));
  });
});

describe('smaller', () => {
  describe.each([
    ['a.qcow2', ['512k', '100k', '512']],
    ['ragged.qcow2', ['999k', '64k']],
    ['packed.qcow2', ['512k', '32k']],
    ['small.qcow2', ['500k', '1k']],
    ['bit.qcow2', ['333k']],
    ['sub.qcow2', ['910k', '105k']],
    ['old.qcow2', ['910k']],
    ['over.qcow2', ['910k']],
    ['snap.qcow2', ['512k', '2k']],
    ['bits.qcow2', ['585k', '599552']],
    ['finebits.qcow2', ['3M']],
  ])('%s', (name, sizes) => {
    const { testLines } = withImages(name);
    testLines(sizes.map((size) => `resize --shrink ${name} ${size}`).join('\n'));
  });
});

describe('what keeps its size', () => {
  const { testLines } = withImages('oldsnap.qcow2', 'broken.qcow2');
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
  const { testLines, both } = withImages('r.raw', 'odd.raw');
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

describe('the same map', () => {
  const { both } = withImages(...Object.keys(MAKERS));
  test.each([
    ['ragged.qcow2', '6M', 'metadata'],
    ['ragged.qcow2', '6M', 'falloc'],
    ['sub.qcow2', '6M', 'metadata'],
    ['old.qcow2', '6M', 'full'],
    ['over.qcow2', '3M', 'off'],
    ['over.qcow2', '6M', 'metadata'],
    ['over.qcow2', '6M', 'falloc'],
    ['oversub.qcow2', '4M', 'metadata'],
    ['overold.qcow2', '6M', 'full'],
    ['data.qcow2', '6M', 'falloc'],
    ['rawdata.qcow2', '6M', 'off'],
    ['snap.qcow2', '300k', 'off'],
  ] as const)('%s %s %s', async (name, size, mode) => {
    const args = ['resize', '--shrink', `--preallocation=${mode}`, name, size];
    const { theirDir, myDir } = await both(args);
    expect(await mapOf(myDir, name)).toBe(await mapOf(theirDir, name));
  });
});

/** Size, clusters in use and guest data, by QEMU, in each one's own directory. */
async function stateOf(dir: string, name: string, image = name): Promise<unknown> {
  const opts = image === name ? [name] : [...KEY.split(' '), image];
  const info = await run('qemu-img', ['info', '--output=json', name], { cwd: dir });
  const check = await run('qemu-img', ['check', '--output=json', ...opts], { cwd: dir });
  const { leaks, corruptions, 'allocated-clusters': allocated } = JSON.parse(check.stdout);
  await mustIn(dir, 'qemu-img', 'convert', '-O', 'raw', ...opts, 'view');
  const size = JSON.parse(info.stdout)['virtual-size'];
  return { size, leaks, corruptions, allocated, view: hash(join(dir, 'view')) };
}

const hash = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');

describe('bitmaps', () => {
  const { both } = withImages('bits.qcow2');

  test('nothing comes back where QEMU makes a smaller one longer again', async () => {
    const { theirDir, myDir } = await both(['resize', '--shrink', 'bits.qcow2', '600k']);
    const bitmaps = [theirDir, myDir].map(async (dir) => {
      await mustIn(dir, 'qemu-img', 'resize', '-q', 'bits.qcow2', '3M');
      return bitmapsIn(readFileSync(join(dir, 'bits.qcow2')));
    });
    expect(await bitmaps[1]).toEqual(await bitmaps[0]);
  });
});

describe('images that are opened in their own directory', () => {
  const { both } = withImages('data.qcow2', 'rawdata.qcow2', 'locked.qcow2', 'dirty.qcow2');
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
    expect(await stateOf(myDir, name)).toEqual(await stateOf(theirDir, name));
    const file = name.replace('.qcow2', '.raw');
    expect(hash(join(myDir, file))).toBe(hash(join(theirDir, file)));
  });

  test.each(['3M', '512k'])('encrypted, %s', async (size) => {
    const args = ['resize', '--shrink', ...KEY.split(' '), LOCKED, size];
    const { theirs, mine, theirDir, myDir } = await both(args);
    expect(mine).toEqual(theirs);
    const [theirState, myState] = await Promise.all(
      [theirDir, myDir].map((dir) => stateOf(dir, 'locked.qcow2', LOCKED)),
    );
    expect(myState).toEqual(theirState);
  });

  test('dirty: rebuilt without words', async () => {
    const { mine, myDir } = await both(['resize', 'dirty.qcow2', '3M']);
    expect(mine).toEqual({ code: 0, stdout: 'Image resized.\n', stderr: '' });
    expect(await stateOf(myDir, 'dirty.qcow2')).toMatchObject({
      ...{ size: 3 * 1024 * 1024, leaks: undefined, corruptions: undefined },
    });
  });

  test('a data file longer than its disk is cut, as by QEMU', async () => {
    const { theirDir, myDir } = await both(['resize', 'data.qcow2', '2M'], (dir) =>
      truncateSync(join(dir, 'data.raw'), 4_000_000),
    );
    const lengths = [theirDir, myDir].map((dir) => readFileSync(join(dir, 'data.raw')).length);
    expect(lengths[1]).toBe(lengths[0]);
  });
});
