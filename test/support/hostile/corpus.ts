// Sound chains in memory, one for each feature that a file can have: what hostile images are made
// from. Small clusters, so that all kinds of tables are there in a few kilobytes.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Description, openChain } from '../../../src/chain/open.ts';
import type { Secrets } from '../../../src/chain/secrets.ts';
import { nodeCodecs } from '../../../src/io/codecs.ts';
import { MemoryHost } from '../../../src/io/memory-host.ts';
import { addBitmap } from '../../../src/qcow2/bitmap-edit.ts';
import { type CreateOptions, createImage } from '../../../src/qcow2/create.ts';
import type { Qcow2Image } from '../../../src/qcow2/image.ts';
import { createSnapshot } from '../../../src/qcow2/snapshot-changes.ts';
import { aes, luks, quickHost, utf8 } from '../encrypted.ts';
import { pattern } from '../storage-contract.ts';

const FIXTURES = join(import.meta.dirname, '..', '..', '..', 'fixtures');
const SIZE = 200 * 512;

/** The files of a sound chain; the ones in `targets` are qcow2 images. */
export interface Specimen {
  readonly name: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly top: string;
  /** Where layers are encrypted: the chain with the names of their keys. */
  readonly keyed?: Description;
  readonly targets: readonly string[];
}

const KEY = { 'key-secret': 'key' };

/** What opens encrypted specimens. */
export const SECRETS: Secrets = new Map([['key', utf8('geheim')]]);

type Fill = (image: Qcow2Image) => Promise<void>;

interface Recipe {
  readonly name: string;
  readonly base?: Partial<CreateOptions>;
  readonly middle?: Partial<CreateOptions>;
  readonly top?: Partial<CreateOptions>;
  /** The base is a raw file. */
  readonly raw?: boolean;
  /** More than data for the top, for the base. */
  readonly more?: Fill;
  readonly moreInBase?: Fill;
}

const snapshots: Fill = async (image) => {
  for (const name of ['one', 'two']) {
    await createSnapshot(image, { name, seconds: 1, nanoseconds: 2 });
    await image.write(1024, pattern(700, 9));
  }
};

const bitmaps: Fill = async (image) => {
  await image.changeBitmaps(async (list) => {
    addBitmap(list, image, 'marks', 512);
    addBitmap(list, image, 'coarse', 65536);
  });
  await image.write(4096, pattern(3000, 11));
};

const compressed: Fill = async (image) => {
  const cluster = new Uint8Array(image.clusterSize);
  cluster.set(pattern(64, 5));
  for (let i = 8; i < 12; i++) await image.writeCompressed(i * image.clusterSize, cluster);
};

const SMALL = { clusterSize: 512 };
/** Short keys: their material is read and decrypted whenever an image is opened. */
const XTS = luks('geheim', { cipher: 'aes-128' });
const ESSIV = { ivgen: 'essiv', ivgenHash: 'sha256' } as const;
const CBC = luks('geheim', { cipher: 'aes-128', mode: 'cbc', ...ESSIV });
const RECIPES: readonly Recipe[] = [
  { name: 'version 3', base: SMALL, top: SMALL },
  { name: 'version 2', base: { ...SMALL, version: 2 }, top: { ...SMALL, version: 2 } },
  { name: 'over a raw file', raw: true, top: SMALL },
  { name: 'three layers', base: SMALL, middle: { clusterSize: 1024 }, top: SMALL },
  { name: 'refcounts of 1 bit', base: { ...SMALL, refcountBits: 1 }, top: SMALL },
  { name: 'refcounts of 64 bits', base: { ...SMALL, refcountBits: 64 }, top: SMALL },
  { name: 'snapshots', base: SMALL, top: SMALL, more: snapshots, moreInBase: snapshots },
  { name: 'bitmaps', base: SMALL, top: SMALL, more: bitmaps, moreInBase: bitmaps },
  { name: 'compressed', base: SMALL, top: SMALL, more: compressed, moreInBase: compressed },
  {
    name: 'extended L2 entries',
    base: { clusterSize: 16384, extendedL2: true },
    top: { clusterSize: 16384, extendedL2: true },
  },
  { name: 'larger clusters', base: { clusterSize: 4096 }, top: { clusterSize: 4096 } },
  { name: 'smaller base', base: { ...SMALL, size: 100 * 512 }, top: SMALL },
  { name: 'data file', base: { ...SMALL, dataFile: 'data.raw' }, top: SMALL },
  { name: 'AES', base: { ...SMALL, encryption: aes() }, top: SMALL },
  { name: 'LUKS', base: { ...SMALL, encryption: XTS }, top: SMALL },
  {
    name: 'AES over AES',
    base: { ...SMALL, encryption: aes() },
    top: { ...SMALL, encryption: aes() },
    more: snapshots,
  },
  { name: 'LUKS over a raw file', raw: true, top: { clusterSize: 4096, encryption: CBC } },
];

/** Images by QEMU that our engine does not make: alone, or without the file below. */
const FROM_QEMU = ['zstd', 'zlib', 'luks', 'unknown-extension', 'feature-names', 'dirty', 'corrupt']
  .concat(['bitmap', 'snapshots', 'extended-l2', 'zero-preallocated'])
  .map((name) => `${name}.qcow2`);

export async function makeCorpus(): Promise<readonly Specimen[]> {
  const made: Specimen[] = [];
  for (const recipe of RECIPES) made.push(await make(recipe));
  for (const name of FROM_QEMU) {
    const bytes = new Uint8Array(readFileSync(join(FIXTURES, name)));
    const files = new Map([[`/${name}`, bytes]]);
    made.push({ name, files, top: `/${name}`, targets: [`/${name}`] });
  }
  return made;
}

async function make(recipe: Recipe): Promise<Specimen> {
  const host = new MemoryHost({ codecs: nodeCodecs });
  const { base, middle, top, raw } = recipe;
  const names: string[] = [];
  if (raw) host.addFile('/base', pattern(SIZE, 1));
  else await add(host, '/base', base, undefined, recipe.moreInBase);
  names.push('/base');
  if (middle) {
    await add(host, '/middle', middle, 'base');
    names.push('/middle');
  }
  const above = { backingFile: middle ? 'middle' : 'base', backingFormat: raw ? 'raw' : 'qcow2' };
  const keyed = (top?.encryption ?? base?.encryption) && keyedChain(recipe);
  await add(host, '/top', { ...top, ...above }, undefined, recipe.more, keyed);
  names.push('/top');
  if (base?.dataFile !== undefined) names.push('/data.raw');
  const files = new Map(names.map((name) => [name, host.fileBytes(name) ?? new Uint8Array()]));
  const targets = names.filter((name) => name !== '/data.raw' && !(raw && name === '/base'));
  return { name: recipe.name, files, top: '/top', ...(keyed && { keyed }), targets };
}

function keyedChain({ base, top }: Recipe): Description {
  return {
    driver: 'qcow2',
    file: { driver: 'file', filename: '/top' },
    ...(top?.encryption && { encrypt: KEY }),
    ...(base?.encryption && { backing: { encrypt: KEY } }),
  };
}

let seed = 1;

async function add(
  host: MemoryHost,
  name: string,
  options: Partial<CreateOptions> = {},
  backing?: string,
  more?: Fill,
  keyed?: Description,
): Promise<void> {
  const data = options.dataFile;
  const dataFile = data === undefined ? undefined : await host.createStorage(`/${data}`);
  const below = backing !== undefined && { backingFile: backing, backingFormat: 'qcow2' };
  const whole = { size: SIZE, ...options, ...below };
  const created = await createImage(await host.createStorage(name), whole, dataFile, quickHost());
  if (whole.backingFile === undefined) {
    await fill(created, more);
    await created.close();
    return;
  }
  await created.close();
  const opening = { host, writable: true, secrets: SECRETS };
  await using chain = await openChain(keyed ?? name, opening);
  await fill(chain.top as Qcow2Image, more);
}

async function fill(image: Qcow2Image, more: Fill | undefined): Promise<void> {
  const { clusterSize } = image;
  await image.write(0, pattern(2 * clusterSize, seed++));
  await image.write(5 * clusterSize, pattern(clusterSize, seed++));
  await image.zero(3 * clusterSize, clusterSize);
  if (image.size >= 70 * 512 && clusterSize < 4096) {
    await image.write(64 * clusterSize, pattern(2 * clusterSize, seed++));
  }
  await more?.(image);
}
