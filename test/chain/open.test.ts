// Opening a chain: each layer by the name and format that the one above it stores.

import { describe, expect, test } from 'vitest';
import { MAX_DEPTH, openChain } from '../../src/chain/open.ts';
import type { MemoryStorage } from '../../src/io/memory.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import type { Storage } from '../../src/io/storage.ts';
import { writeField } from '../../src/qcow2/fields.ts';
import { HEADER, INCOMPATIBLE } from '../../src/qcow2/spec.ts';
import { headerWith, SOUND } from '../support/headers.ts';
import { addChain, addImage, DISK } from '../support/named-images.ts';

const open = (host: MemoryHost, name: string, options = {}) =>
  openChain(name, { host, ...options });

async function namesIn(host: MemoryHost, name: string, options = {}): Promise<string[]> {
  await using chain = await open(host, name, options);
  return chain.layers.map(({ filename }) => filename);
}

/** Remembers who is open. */
class CountingHost extends MemoryHost {
  readonly opened = new Set<Storage>();

  override async openStorage(
    ...args: Parameters<MemoryHost['openStorage']>
  ): Promise<MemoryStorage> {
    const storage = (await super.openStorage(...args)) as MemoryStorage;
    this.opened.add(storage);
    storage.close = async () => void this.opened.delete(storage);
    return storage;
  }
}

test('names are seen from the directory of the layer that stores them', async () => {
  const host = new MemoryHost();
  await addImage(host, '/a/base');
  await addImage(host, '/b/mid', { backingFile: '../a/base', backingFormat: 'qcow2' });
  await addImage(host, '/top', { backingFile: 'b/mid', backingFormat: 'qcow2' });
  expect(await namesIn(host, '/top')).toEqual(['/top', '/b/mid', '/b/../a/base']);
});

test('the layers are joined, and the last one has nothing below', async () => {
  const host = new MemoryHost();
  await addChain(host, '/base', '/mid', '/top');
  await using chain = await open(host, '/top');
  const [top, mid, base] = chain.layers.map(({ layer }) => layer);
  expect(top?.backing).toBe(mid);
  expect(mid?.backing).toBe(base);
  expect(base?.backing).toBeNull();
});

test('only the top is opened for writing', async () => {
  const host = new MemoryHost();
  await addChain(host, '/base', '/mid', '/top');
  await using chain = await open(host, '/top', { writable: true });
  expect(chain.layers.map(({ layer }) => layer.writable)).toEqual([true, false, false]);
  await using single = await open(host, '/top', { single: true });
  expect(single.layers).toHaveLength(1);
});

test('a format that nobody says is probed, and remembered as a guess', async () => {
  const host = new MemoryHost();
  host.addFile('/base', new Uint8Array(DISK));
  await addImage(host, '/mid', { backingFile: 'base' });
  await addImage(host, '/top', { backingFile: 'mid', backingFormat: 'qcow2' });
  await using chain = await open(host, '/top');
  const known = chain.layers.map(({ layer, formatKnown }) => [layer.format, formatKnown]);
  expect(known).toEqual([
    ['qcow2', false],
    ['qcow2', true],
    ['raw', false],
  ]);
});

test('a format that is given is taken, whatever the bytes look like', async () => {
  const host = new MemoryHost();
  await addImage(host, '/disk');
  await using chain = await open(host, '/disk', { format: 'raw' });
  expect(chain.top).toMatchObject({ format: 'raw', backing: null });
  const start = new Uint8Array(4);
  await chain.read(0, start);
  expect([...start]).toEqual([0x51, 0x46, 0x49, 0xfb]);
});

describe('a loop', () => {
  test.each([
    ['of one image', ['/a'], 'a'],
    ['of two images', ['/a', '/b'], 'a'],
    ['that begins further down', ['/top', '/a', '/b'], 'a'],
    ['by another name', ['/a', '/b'], '../x/../a'],
  ])('%s is refused', async (_what, names, last) => {
    const host = new MemoryHost();
    for (const [i, name] of names.entries()) {
      const backingFile = names[i + 1]?.slice(1) ?? last;
      await addImage(host, name, { backingFile, backingFormat: 'qcow2' });
    }
    await expect(open(host, names[0] ?? '')).rejects.toMatchObject({
      code: 'invalid',
      message: expect.stringMatching(/^Backing file '.*a' creates an infinite loop\.$/),
    });
  });
});

test('more layers than the limit are refused', async () => {
  const host = new MemoryHost();
  const base = { l1TableOffset: 0, refcountTableOffset: 0 };
  for (let i = 0; i <= MAX_DEPTH; i++) {
    host.addFile(`/${i}`, headerWith({}, { ...SOUND, ...base, backingFile: `${i + 1}` }));
  }
  await expect(open(host, '/0')).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringContaining(`The chain has more than ${MAX_DEPTH} layers`),
  });
});

describe('what is missing is told with the layers above it:', () => {
  test('the top', async () => {
    await expect(open(new MemoryHost(), 'nope')).rejects.toMatchObject({
      code: 'not-found',
      errno: 'ENOENT',
      message: "Could not open 'nope': Could not open 'nope': No such file or directory",
    });
  });

  test('a backing file', async () => {
    const host = new MemoryHost();
    await addImage(host, '/mid', { backingFile: 'gone', backingFormat: 'qcow2' });
    await addImage(host, '/top', { backingFile: 'mid', backingFormat: 'qcow2' });
    await expect(open(host, '/top')).rejects.toMatchObject({
      code: 'not-found',
      message:
        "Could not open '/top': Could not open backing file: Could not open backing file: " +
        "Could not open '/gone': No such file or directory",
    });
  });
});

describe('a format', () => {
  test.each([
    ['nosuch', 'invalid', "Unknown driver 'nosuch'"],
    ['vmdk', 'unsupported', "The format 'vmdk' is not supported"],
    ['', 'invalid', "Unknown driver ''"],
  ])('%j is refused, given or stored', async (format, code, words) => {
    const host = new MemoryHost();
    await addImage(host, '/base');
    await addImage(host, '/top', { backingFile: 'base', backingFormat: format });
    const given = { code, message: `Could not open '/base': ${words}` };
    await expect(open(host, '/base', { format })).rejects.toMatchObject(given);
    const stored = {
      code,
      message: `Could not open '/top': Could not open backing file: ${words}`,
    };
    await expect(open(host, '/top')).rejects.toMatchObject(stored);
  });

  test('that is only known by sight is refused when it is probed', async () => {
    const host = new MemoryHost();
    host.addFile('/disk', new TextEncoder().encode('KDMV and more'));
    const unsupported = { code: 'unsupported', message: expect.stringContaining("'vmdk'") };
    await expect(open(host, '/disk')).rejects.toMatchObject(unsupported);
  });

  test('of qcow2 is not believed where the bytes are none', async () => {
    const host = new MemoryHost();
    host.addFile('/disk', new Uint8Array(100));
    const message = "Could not open '/disk': Image is not in qcow2 format";
    const expected = { code: 'format', message };
    await expect(open(host, '/disk', { format: 'qcow2' })).rejects.toMatchObject(expected);
  });
});

test('a protocol other than file: is refused', async () => {
  const host = new MemoryHost();
  await addImage(host, '/top', { backingFile: 'nbd:localhost:10809' });
  const message = expect.stringContaining("Unknown protocol 'nbd'");
  await expect(open(host, '/top')).rejects.toMatchObject({ code: 'unsupported', message });
});

test('file: names a host file as it is', async () => {
  const host = new MemoryHost();
  await addImage(host, '/a/base');
  await addImage(host, '/b/top', { backingFile: 'file:/a/base', backingFormat: 'qcow2' });
  expect(await namesIn(host, 'file:/b/top')).toEqual(['/b/top', '/a/base']);
});

describe('features that keep us from reading', () => {
  async function withFeature(host: MemoryHost, bits: bigint): Promise<void> {
    await addImage(host, '/disk');
    const bytes = host.fileBytes('/disk') ?? new Uint8Array();
    writeField(bytes, HEADER.incompatibleFeatures, bits);
    host.addFile('/disk', bytes);
  }

  test('an external data file that has no name', async () => {
    const host = new MemoryHost();
    await withFeature(host, INCOMPATIBLE.externalDataFile);
    const message = "Could not open '/disk': 'data-file' is required for this image";
    await expect(open(host, '/disk')).rejects.toMatchObject({ code: 'invalid', message });
    await using chain = await open(host, '/disk', { describe: true });
    await expect(chain.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'invalid' });
  });

  test('a corrupt image is opened for reading, not for writing', async () => {
    const host = new MemoryHost();
    await withFeature(host, INCOMPATIBLE.corrupt);
    expect(await namesIn(host, '/disk')).toEqual(['/disk']);
    await expect(open(host, '/disk', { writable: true })).rejects.toMatchObject({
      code: 'corrupt',
      message: "Could not open '/disk': qcow2: Image is corrupt; cannot be opened read/write",
    });
  });
});

test('what was opened is closed again, also when a layer below fails', async () => {
  const host = new CountingHost();
  await addImage(host, '/mid', { backingFile: 'gone', backingFormat: 'qcow2' });
  await addImage(host, '/top', { backingFile: 'mid', backingFormat: 'qcow2' });
  await expect(open(host, '/top')).rejects.toThrow();
  await expect(open(host, '/mid', { format: 'nosuch' })).rejects.toThrow();
  expect(host.opened.size).toBe(0);
});
