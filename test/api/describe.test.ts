// Images described instead of named: opened, checked, committed; what makes no sense is refused.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import {
  checkImage,
  commit,
  createImage,
  type ImageDescription,
  MemoryHost,
  MemoryStorage,
  openChain,
} from '../../src/index.ts';
import { collect } from '../support/collect.ts';
import { makeTemp } from '../support/temp.ts';

const MIB = 1024 * 1024;
const { dir, cleanup } = makeTemp();
afterAll(cleanup);

async function makeHost(): Promise<MemoryHost> {
  const host = new MemoryHost();
  await using base = await createImage('base.qcow2', { host, size: 4 * MIB });
  await base.write(0, new Uint8Array(MIB).fill(1));
  await base.close();
  const backing = { backingFile: 'base.qcow2', backingFormat: 'qcow2' } as const;
  await using top = await createImage('top.qcow2', { host, size: 4 * MIB, ...backing });
  await top.write(MIB, new Uint8Array(MIB).fill(2));
  return host;
}

const file = (filename: string): ImageDescription => ({ driver: 'file', filename });
const qcow2 = (filename: string): ImageDescription => ({ driver: 'qcow2', file: file(filename) });

test('a description opens the chain that a name would', async () => {
  const host = await makeHost();
  await using chain = await openChain(qcow2('top.qcow2'), { host });
  expect(chain.layers.map(({ filename }) => filename)).toEqual(['top.qcow2', 'base.qcow2']);
  expect(chain.layers[0].formatKnown).toBe(true);
  await using probed = await openChain({ file: file('top.qcow2') }, { host });
  expect(probed.layers[0]).toMatchObject({ format: 'qcow2', formatKnown: false });
});

test('it says what the layer below is, or that there is none', async () => {
  const host = await makeHost();
  const top = { driver: 'qcow2', file: file('top.qcow2') } as const;
  const raw = { driver: 'raw', file: file('base.qcow2') } as const;
  await using other = await openChain({ ...top, backing: raw }, { host });
  expect(other.layers.map(({ format }) => format)).toEqual(['qcow2', 'raw']);
  const nothing = { driver: 'null-co', size: 2 * MIB, 'read-zeroes': true } as const;
  const lowest = { driver: 'qcow2', file: file('base.qcow2'), backing: nothing } as const;
  await using zeros = await openChain(lowest, { host });
  expect(zeros.layers.map(({ format }) => format)).toEqual(['qcow2', 'null-co']);
  await using alone = await openChain({ ...top, backing: null }, { host });
  expect(alone.layers).toHaveLength(1);
  const byte = new Uint8Array(1).fill(9);
  await alone.read(0, byte);
  expect(byte[0]).toBe(0);
  expect((await collect(alone.extents())).map(({ kind }) => kind)).toEqual([
    'zero',
    'data',
    'zero',
  ]);
  const writable = await openChain({ ...top, backing: null }, { host, writable: true });
  await expect(writable.write(0, byte)).rejects.toMatchObject({ code: 'invalid' });
  await writable.close();
});

test('a part of a file is an image, on this machine where no host is named', async () => {
  const filename = join(dir, 'disk.img');
  writeFileSync(filename, new Uint8Array(4096).fill(7, 1024, 2048));
  const part: ImageDescription = {
    driver: 'raw',
    offset: 1024,
    size: 1024,
    file: { filename, locking: 'off' },
  };
  await using chain = await openChain(part);
  const bytes = new Uint8Array(1024);
  await chain.read(0, bytes);
  expect([chain.size, bytes.every((byte) => byte === 7)]).toEqual([1024, true]);
  const [first] = await collect(chain.status({ offset: 512 }));
  expect(first).toMatchObject({ offset: 512, hostOffset: 1536 });
});

test('a qcow2 image inside a file tells where its bytes lie in that file', async () => {
  const host = await makeHost();
  const image = host.fileBytes('base.qcow2') ?? new Uint8Array();
  const disk = new Uint8Array(MIB + image.length);
  disk.set(image, MIB);
  host.addFile('disk', disk);
  const inside: ImageDescription = {
    driver: 'qcow2',
    file: { driver: 'raw', offset: MIB, file: file('disk') },
  };
  await using chain = await openChain(inside, { host });
  const [{ hostOffset } = { hostOffset: null }] = await collect(chain.status());
  expect(hostOffset).toBeGreaterThan(MIB);
  expect(disk[hostOffset ?? 0]).toBe(1);
});

test('errors are injected by rules', async () => {
  const host = await makeHost();
  const rules = [{ event: 'none', iotype: 'read', sector: 0, errno: 5 }] as const;
  const broken: ImageDescription = {
    driver: 'blkdebug',
    image: file('top.qcow2'),
    'inject-error': rules,
  };
  await expect(openChain({ driver: 'qcow2', file: broken }, { host })).rejects.toMatchObject({
    code: 'io',
    errno: 'EIO',
  });
});

test('checks and commits take one, too', async () => {
  const host = await makeHost();
  expect(await checkImage(qcow2('top.qcow2'), { host })).toMatchObject({ corruptions: 0 });
  expect(await commit(qcow2('top.qcow2'), { host })).toMatchObject({ copyBytes: MIB });
  await using base = await openChain('base.qcow2', { host });
  const byte = new Uint8Array(1);
  await base.read(MIB, byte);
  expect(byte[0]).toBe(2);
});

const REFUSED: readonly [unknown, string][] = [
  [{}, 'invalid'],
  [null, 'invalid'],
  [7, 'invalid'],
  [[], 'invalid'],
  [{ filename: 'top.qcow2' }, 'invalid'],
  [{ driver: 'qcow2' }, 'invalid'],
  [{ driver: 'nonsense' }, 'invalid'],
  [{ driver: 'vmdk', file: file('top.qcow2') }, 'unsupported'],
  [{ driver: 'qcow2', file: file('top.qcow2'), nonsense: 1 }, 'invalid'],
  [{ driver: 'raw', offset: 1, size: 7, file: file('top.qcow2') }, 'invalid'],
  [{ driver: 'qcow2', file: file('nothing') }, 'not-found'],
];

test.each(REFUSED)('%j is refused: %s', async (description, code) => {
  const host = await makeHost();
  const wrong = description as ImageDescription;
  await expect(openChain(wrong, { host })).rejects.toMatchObject({ name: 'ImageError', code });
});

test('what is for reading only is not opened for writing', async () => {
  const host = await makeHost();
  const readOnly = { driver: 'qcow2', 'read-only': true, file: file('base.qcow2') } as const;
  const opened = openChain(readOnly, { host, writable: true });
  await expect(opened).rejects.toMatchObject({ code: 'read-only' });
});

test('a storage is closed wherever opening fails', async () => {
  const closed: string[] = [];
  class Watched extends MemoryStorage {
    override async close(): Promise<void> {
      closed.push(this.filename);
    }
  }
  const open = (filename: string, options: object) =>
    openChain(new Watched(new Uint8Array(512), { filename }), options);
  await expect(open('a', { signal: AbortSignal.abort(1) })).rejects.toBe(1);
  await expect(open('b', { format: 'nonsense' })).rejects.toMatchObject({ code: 'invalid' });
  await expect(open('c', { format: 'qcow2' })).rejects.toMatchObject({ code: 'format' });
  expect(new Set(closed)).toEqual(new Set(['a', 'b', 'c']));
});
