// Every fixtures/*.qcow2 reads as the .json beside it says: images by QEMU, judged by QEMU.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Chain } from '../src/chain/chain.ts';
import { openChain } from '../src/chain/open.ts';
import { MemoryStorage } from '../src/io/memory.ts';
import { nodeHost } from '../src/io/node-host.ts';
import type { Layer } from '../src/layer.ts';
import type { Header } from '../src/qcow2/header.ts';
import { Qcow2Image } from '../src/qcow2/image.ts';
import { HEADER } from '../src/qcow2/spec.ts';
import { RawImage } from '../src/raw/raw.ts';

const FIXTURES = join(import.meta.dirname, '..', 'fixtures');
const NAMES = namesWith('.qcow2');

interface ExtentOf {
  readonly offset: number;
  readonly length: number;
  readonly kind: string;
}

interface Description {
  readonly header: Readonly<Record<string, number | string>>;
  readonly compressionType: string;
  readonly extensions: readonly { readonly type: number; readonly hex: string }[];
  readonly featureNames: readonly unknown[];
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  readonly dataFile: string | null;
  readonly snapshots: readonly { readonly id: string; readonly name: string }[];
  readonly bitmaps: readonly unknown[];
  readonly unsupported: string | null;
  readonly extents: readonly ExtentOf[] | null;
  readonly sha256: string | null;
}

function namesWith(suffix: string): readonly string[] {
  return readdirSync(FIXTURES)
    .filter((name) => name.endsWith(suffix))
    .map((name) => name.slice(0, -suffix.length))
    .sort();
}

function descriptionOf(name: string): Description {
  return JSON.parse(readFileSync(join(FIXTURES, `${name}.json`), 'utf8')) as Description;
}

/** The image alone: what would be below it is not there. */
async function withImage<T>(name: string, work: (image: Qcow2Image, chain: Chain) => Promise<T>) {
  const options = { host: nodeHost, single: true, describe: true };
  const chain = await openChain(join(FIXTURES, `${name}.qcow2`), options);
  try {
    if (!(chain.top instanceof Qcow2Image)) throw new Error(`${name} is not taken for qcow2`);
    return await work(chain.top, chain);
  } finally {
    await chain.close();
  }
}

function fieldsOf(header: Header): Record<string, number | string> {
  const names = Object.keys(HEADER) as (keyof typeof HEADER)[];
  return Object.fromEntries(
    names.map((name) => {
      const value = header[name];
      return [name, typeof value === 'bigint' ? `0x${value.toString(16)}` : value];
    }),
  );
}

/** Without the places in the file, neighbours of one kind merged. */
async function extentsOf(layer: Layer): Promise<readonly ExtentOf[]> {
  const merged: { offset: number; length: number; kind: string }[] = [];
  for (let at = 0; at < layer.size; ) {
    for (const { offset, length, kind } of await layer.extents(at, layer.size - at)) {
      expect(offset, 'extents have no gaps').toBe(at);
      const last = merged.at(-1);
      if (last?.kind === kind) last.length += length;
      else merged.push({ offset, length, kind });
      at = offset + length;
    }
  }
  return merged;
}

async function hashOf(chain: Chain, pieceBytes: number): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of chain.view(pieceBytes)) hash.update(piece);
  return hash.digest('hex');
}

test('there are fixtures, and each has a description; none describes nothing', () => {
  expect(NAMES.length).toBeGreaterThan(0);
  expect(namesWith('.json')).toEqual(NAMES);
});

describe.each(NAMES)('%s', (name) => {
  test('the header reads as it was written', () =>
    withImage(name, async ({ header }) => {
      const expected = descriptionOf(name);
      expect(fieldsOf(header)).toEqual(expected.header);
      expect(header.compressionType).toBe(expected.compressionType);
      expect(header.backingFile).toBe(expected.backingFile);
      expect(header.backingFormat).toBe(expected.backingFormat);
      expect(header.dataFile).toBe(expected.dataFile);
      expect(header.featureNames).toEqual(expected.featureNames);
      const extensions = header.extensions.map(({ type, data }) => ({
        type,
        hex: Buffer.from(data).toString('hex'),
      }));
      expect(extensions).toEqual(expected.extensions);
    }));

  test('snapshots and bitmaps are found', () =>
    withImage(name, async (image) => {
      const expected = descriptionOf(name);
      const snapshots = (await image.snapshots()).map(({ id, name }) => ({ id, name }));
      expect(snapshots).toEqual(expected.snapshots);
      const bitmaps = image.bitmaps.list.map(({ name, granularity, enabled, inconsistent }) => ({
        flags: [...(inconsistent ? ['in-use'] : []), ...(enabled ? ['auto'] : [])],
        name,
        granularity,
      }));
      expect(bitmaps).toEqual(expected.bitmaps);
    }));

  test('the extents and the data are those that QEMU sees, or the feature is named', () =>
    withImage(name, async (image, chain) => {
      const expected = descriptionOf(name);
      expect(image.unsupportedForReading).toBe(expected.unsupported);
      if (expected.unsupported === 'encryption') {
        const refusal = { code: 'invalid', message: expect.stringContaining('encrypt.key-secret') };
        await expect(image.read(0, new Uint8Array(1))).rejects.toMatchObject(refusal);
        return;
      }
      if (expected.unsupported !== null) {
        const refusal = { code: 'unsupported', message: expect.stringContaining('uses') };
        await expect(image.extents(0, image.size)).rejects.toMatchObject(refusal);
        await expect(image.read(0, new Uint8Array(1))).rejects.toMatchObject(refusal);
        return;
      }
      expect(await extentsOf(image)).toEqual(expected.extents);
      // QEMU read it alone: below it is a disk of no bytes.
      if (expected.backingFile !== null) image.backing = new RawImage(new MemoryStorage());
      // In whole pieces, and in ones that fit neither sectors nor clusters.
      expect(await hashOf(chain, 1024 * 1024)).toBe(expected.sha256);
      if (image.size < 2 ** 20) expect(await hashOf(chain, 777)).toBe(expected.sha256);
    }));
});
