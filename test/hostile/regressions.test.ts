// What disk images are known to have done to programs that read them, in cases of our own making.
// Each goes through all commands that read, under limits, and then is committed and repaired.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { beforeAll, expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { nodeCodecs } from '../../src/io/codecs.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { type CreateOptions, createImage } from '../../src/qcow2/create.ts';
import { viewOf } from '../../src/qcow2/fields.ts';
import { parseHeader } from '../../src/qcow2/header.ts';
import type { Qcow2Image } from '../../src/qcow2/image.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { COMPRESSION_TYPE_OFFSET, HEADER, INCOMPATIBLE, SNAPSHOT } from '../../src/qcow2/spec.ts';
import { KIB, MIB } from '../../src/units.ts';
import { judgeByCommand, READING, STEERS } from '../support/hostile/by-command.ts';
import { Random } from '../support/hostile/random.ts';
import { confined } from '../support/limited.ts';
import type { Outcome } from '../support/qemu.ts';
import { pattern } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

const COPIED = 1n << 63n;
const OFFSET = 0x00ff_ffff_ffff_fe00n;
const NASTY = 'a\u{1b}]0;b\u{7}\nimage: c';

type Files = Readonly<Record<string, Uint8Array>>;

/** The bytes of an image that `fill` has written to. */
async function imageBytes(
  options: Partial<CreateOptions>,
  fill?: (image: Qcow2Image) => Promise<void>,
): Promise<Uint8Array> {
  const host = new MemoryHost({ codecs: nodeCodecs });
  const storage = await host.createStorage('/image');
  const data =
    options.dataFile === undefined ? undefined : await host.createStorage(options.dataFile);
  const image = await createImage(storage, { size: MIB, clusterSize: 512, ...options }, data);
  await image.close();
  if (options.backingFile !== undefined) host.addFile('/base', base);
  if (fill !== undefined) {
    await using chain = await openChain('/image', { host, format: 'qcow2', writable: true });
    await fill(chain.top as Qcow2Image);
  }
  return host.fileBytes('/image') as Uint8Array;
}

let base: Uint8Array;
/** Over `base`, with data, and two snapshots. */
let top: Uint8Array;

beforeAll(async () => {
  base = await imageBytes({}, (image) => image.write(0, pattern(2000, 1)));
  const backing = { backingFile: 'base', backingFormat: 'qcow2' };
  top = await imageBytes(backing, async (image) => {
    for (const name of ['one', 'two']) {
      await image.write(0, pattern(1024, 2));
      await createSnapshot(image, { name, seconds: 1, nanoseconds: 2 });
    }
    await image.write(512, pattern(512, 3));
  });
});

/** The top, of which something was changed. */
function lying(lie: (view: DataView, header: ReturnType<typeof parseHeader>) => void): Files {
  const bytes = top.slice();
  lie(viewOf(bytes), parseHeader(bytes));
  return { top: bytes, base };
}

async function expectHarmless(files: Files): Promise<void> {
  const input = { about: '', files: new Map(Object.entries(files)), top: 'top' };
  expect(await judgeByCommand(input, join(tempDir(), 'input'))).toEqual([]);
}

/** What the commands that read say. */
async function told(files: Files, ...more: readonly string[]): Promise<readonly Outcome[]> {
  const directory = join(tempDir(), 'told');
  mkdirSync(directory);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(directory, name), bytes);
  const all: Outcome[] = [];
  for (const words of [...READING, ['compare', 'top']]) {
    all.push(await confined([...words, ...more, 'top'], directory));
  }
  return all;
}

test('a giant L1 table in a small file', () =>
  expectHarmless(lying((view) => view.setUint32(HEADER.l1Size.offset, 2 ** 22))));

test('an L1 table at the end of all offsets', () =>
  expectHarmless(
    lying((view) => view.setBigUint64(HEADER.l1TableOffset.offset, 2n ** 64n - 512n)),
  ));

test('a refcount table that is its own refcount block, and a block that counts as the table', () =>
  expectHarmless(
    lying((view, { refcountTableOffset: table }) => {
      const block = Number(view.getBigUint64(table));
      for (let i = 0; i < 64; i++) view.setBigUint64(table + i * 8, BigInt(table));
      view.setBigUint64(block, BigInt(table));
    }),
  ));

test('a refcount table of millions of clusters', () =>
  expectHarmless(
    lying((view) => view.setUint32(HEADER.refcountTableClusters.offset, 2 ** 32 - 1)),
  ));

test('L2 tables inside of the L1 table, and an L2 table that maps itself', () =>
  expectHarmless(
    lying((view, { l1TableOffset: l1 }) => {
      const l2 = view.getBigUint64(l1) & OFFSET;
      view.setBigUint64(Number(l2) + 8, COPIED | l2);
      view.setBigUint64(l1 + 8, COPIED | BigInt(l1));
    }),
  ));

test('snapshots whose tables overlap each other, the L1 table and the header', () =>
  expectHarmless(
    lying((view, { l1TableOffset, snapshotsOffset: first }) => {
      const lengths = view.getUint16(first + 12) + view.getUint16(first + 14);
      const extra = view.getUint32(first + SNAPSHOT.extraDataSize.offset);
      const second = first + Math.ceil((40 + extra + lengths) / 8) * 8;
      view.setBigUint64(first, BigInt(l1TableOffset + 512));
      view.setUint32(first + SNAPSHOT.l1Size.offset, 128);
      view.setBigUint64(second, 0n);
    }),
  ));

test('a snapshot table that lies in the L1 table, with 65,536 entries', () =>
  expectHarmless(
    lying((view, { l1TableOffset }) => {
      view.setUint32(HEADER.nbSnapshots.offset, 65_536);
      view.setBigUint64(HEADER.snapshotsOffset.offset, BigInt(l1TableOffset));
    }),
  ));

test('a backing file that is the image itself', async () => {
  const self = await imageBytes({ backingFile: 'top', backingFormat: 'qcow2' });
  await expectHarmless({ top: self });
  const texts = (await told({ top: self })).map(({ stdout, stderr }) => stdout + stderr);
  expect(texts.filter((text) => /loop/.test(text)).length).toBeGreaterThanOrEqual(4);
});

test('backing files that stand on each other', async () => {
  const over = (name: string) => imageBytes({ backingFile: name, backingFormat: 'qcow2' });
  await expectHarmless({ top: await over('a'), a: await over('b'), b: await over('a') });
});

/** An image of one compressed cluster, whose stream is another one. */
async function compressedAs(stream: Uint8Array, type: 'zlib' | 'zstd'): Promise<Uint8Array> {
  const random = new Random(1, 1);
  const noise = new Uint8Array(64 * KIB).map((_, i) => (i < 40_000 ? random.below(256) : 0));
  const bytes = await imageBytes({ clusterSize: 64 * KIB }, (image) =>
    image.writeCompressed(0, noise),
  );
  const view = viewOf(bytes);
  const l2 = Number(view.getBigUint64(parseHeader(bytes).l1TableOffset) & OFFSET);
  const host = Number(view.getBigUint64(l2) & ((1n << 54n) - 1n));
  bytes.set(stream, host);
  if (type === 'zstd') {
    view.setBigUint64(HEADER.incompatibleFeatures.offset, INCOMPATIBLE.compressionType);
    view.setUint8(COMPRESSION_TYPE_OFFSET, 1);
  }
  return bytes;
}

test('a deflate stream of 36 MiB in one cluster', async () => {
  const stream = deflateRawSync(new Uint8Array(36 * MIB), { windowBits: 12 });
  expect(stream.length).toBeLessThan(40_000);
  await expectHarmless({ top: await compressedAs(stream, 'zlib') });
});

test('a zstd frame of 1 GiB in one cluster', async () => {
  const blocks = 8192;
  // A window of 128 KiB, no size of the content; then blocks of one byte, repeated 128 Ki times.
  const header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
  const stream = new Uint8Array(header.length + blocks * 4);
  stream.set(header);
  for (let i = 0; i < blocks; i++) stream.set([0x02, 0x00, 0x10, i], header.length + i * 4);
  await expectHarmless({ top: await compressedAs(stream, 'zstd') });
});

test('names that would steer a terminal are shown as escapes', async () => {
  const cases: readonly Files[] = [
    { top: await imageBytes({ backingFile: NASTY, backingFormat: 'qcow2' }) },
    { top: await imageBytes({ backingFile: 'b', backingFormat: NASTY }) },
    { top: await imageBytes({ dataFile: NASTY }) },
    {
      top: await imageBytes({}, (image) =>
        createSnapshot(image, { name: NASTY, seconds: 1, nanoseconds: 2 }).then(() => undefined),
      ),
    },
    {
      top: await imageBytes({}, (image) =>
        image.changeBitmaps(async (list) => addBitmap(list, image, NASTY, 512)),
      ),
    },
  ];
  for (const files of cases) {
    for (const { stdout, stderr } of await told(files)) {
      const text = `${stdout}\n${stderr}`;
      expect(text).not.toMatch(STEERS);
      expect(text).not.toMatch(/^image: c/m);
    }
  }
}, 60_000);

test('a data file that is a file of the system', async () => {
  const secret = '/etc/passwd';
  const before = readFileSync(secret);
  // A name of the same length, so that it can be written over.
  const stand = await imageBytes({ dataFile: '/data-file1' }, (image) =>
    image.write(0, pattern(1024, 1)),
  );
  const text = Buffer.from(stand).toString('latin1').replace('/data-file1', secret);
  const bytes = new Uint8Array(Buffer.from(text, 'latin1'));
  const files = { top: bytes };
  await expectHarmless(files);
  expect(readFileSync(secret).equals(before)).toBe(true);
  const line = before.toString().split('\n')[0] as string;
  for (const { code, stdout, stderr } of await told(files, '--trust', '.')) {
    expect(stdout + stderr).not.toContain(line);
    expect({ code, named: (stdout + stderr).includes(basename(secret)) }).toMatchObject({
      named: true,
    });
  }
}, 60_000);
