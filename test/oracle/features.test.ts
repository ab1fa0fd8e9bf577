// Every feature of the format with every other one that it goes with, in the base, between and at the
// top: made by QEMU or by us, committed by us and by QEMU, checked and read by QEMU.

import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Secrets } from '../../src/chain/secrets.ts';
import { commit } from '../../src/commit/commit.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { aes, encryptedIn, luks, utf8 } from '../support/encrypted.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const FEATURES = [
  'old',
  'small',
  'large',
  'narrow',
  'extended',
  'data file',
  'raw data file',
  'luks',
  'aes',
  'zstd',
  'compressed',
  'snapshot',
  'bitmap',
  'lazy',
  'preallocated',
] as const;
type Feature = (typeof FEATURES)[number];

/** What the format, or QEMU, does not have together. */
const APART: Partial<Record<Feature, readonly Feature[]>> = {
  old: ['narrow', 'extended', 'data file', 'raw data file', 'zstd', 'bitmap', 'lazy'],
  small: ['large', 'extended'],
  narrow: ['snapshot'],
  'data file': ['raw data file', 'compressed', 'snapshot'],
  'raw data file': ['compressed', 'snapshot'],
  luks: ['aes', 'compressed'],
  aes: ['compressed'],
};
/** Only where there is no backing file. */
const BASE_ONLY: readonly Feature[] = ['raw data file', 'preallocated'];

type Pair = readonly [Feature, Feature];
const PAIRS: readonly Pair[] = FEATURES.flatMap((a, i) =>
  FEATURES.slice(i + 1)
    .filter((b) => !APART[a]?.includes(b) && !APART[b]?.includes(a))
    .map((b): Pair => [a, b]),
);
const ABOVE = PAIRS.filter((pair) => !pair.some((feature) => BASE_ONLY.includes(feature)));

const SIZE = 1_200_128;
const NAMES = ['base', 'mid', 'top'] as const;
type Layers = readonly [Pair, Pair, Pair];

/** Each pair once in each place, with other pairs around it from chain to chain. */
const CHAINS: readonly Layers[] = PAIRS.map((base, i) => {
  const at = (shift: number) => ABOVE[(i + shift) % ABOVE.length] ?? base;
  return [base, at(7), at(19)];
});

const SECRETS: Secrets = new Map([
  ['l', utf8('one')],
  ['a', utf8('two')],
]);
const OBJECTS = ['--object', 'secret,id=l,data=one', '--object', 'secret,id=a,data=two'];

function keyOf(pair: Pair): string | undefined {
  if (pair.includes('luks')) return 'l';
  return pair.includes('aes') ? 'a' : undefined;
}

/** The chain from layer `top` down, as --image-opts takes it. */
function optionsOf(layers: Layers, top: number): string {
  let prefix = '';
  const parts: string[] = [];
  for (let i = top; i >= 0; i--, prefix += 'backing.') {
    const key = keyOf(layers[i] ?? ['old', 'old']);
    parts.push(`${prefix}driver=qcow2,${prefix}file.filename=${NAMES[i]}`);
    if (key !== undefined) parts.push(`${prefix}encrypt.key-secret=${key}`);
  }
  return parts.join(',');
}

function descriptionOf(dir: string, layers: Layers, top: number): object {
  const key = keyOf(layers[top] ?? ['old', 'old']);
  return {
    driver: 'qcow2',
    file: { driver: 'file', filename: join(dir, NAMES[top] ?? '') },
    ...(key !== undefined && { encrypt: { 'key-secret': key } }),
    ...(top > 0 && { backing: descriptionOf(dir, layers, top - 1) }),
  };
}

async function createByUs(dir: string, layers: Layers, index: number): Promise<void> {
  const has = (feature: Feature) => layers[index]?.includes(feature) === true;
  const below = NAMES[index - 1];
  const dataFile = has('data file') || has('raw data file');
  const name = NAMES[index] ?? '';
  const options = {
    size: SIZE,
    clusterSize: clusterSizeOf(has),
    version: has('old') ? 2 : 3,
    refcountBits: has('narrow') ? 1 : 16,
    extendedL2: has('extended'),
    compressionType: has('zstd') ? 'zstd' : 'zlib',
    lazyRefcounts: has('lazy'),
    preallocation: has('preallocated') ? 'metadata' : has('raw data file') ? 'metadata' : 'off',
    ...(dataFile && { dataFile: `${name}.data`, dataFileRaw: has('raw data file') }),
    ...(below !== undefined && { backingFile: below, backingFormat: 'qcow2' }),
    ...(has('luks') && { encryption: luks('one') }),
    ...(has('aes') && { encryption: aes('two') }),
  } as const;
  const storage = await nodeHost.createStorage(join(dir, name));
  const data = dataFile ? await nodeHost.createStorage(join(dir, `${name}.data`)) : undefined;
  const encrypted = has('luks') || has('aes');
  if (encrypted && data === undefined) await (await encryptedIn(storage, options)).close();
  else {
    const { codecs } = nodeHost;
    const clock = { codecs, now: () => performance.now() };
    await (await createImage(storage, options, data, clock)).close();
  }
}

function clusterSizeOf(has: (feature: Feature) => boolean): number {
  if (has('small')) return 512;
  return has('large') ? 2 ** 21 : 65536;
}

async function createByQemu(dir: string, layers: Layers, index: number): Promise<void> {
  const has = (feature: Feature) => layers[index]?.includes(feature) === true;
  const name = NAMES[index] ?? '';
  const dataFile = has('data file') || has('raw data file');
  const options = [
    `cluster_size=${clusterSizeOf(has)}`,
    `compat=${has('old') ? '0.10' : '1.1'}`,
    ...(has('narrow') ? ['refcount_bits=1'] : []),
    ...(has('extended') ? ['extended_l2=on'] : []),
    ...(has('zstd') ? ['compression_type=zstd'] : []),
    ...(has('lazy') ? ['lazy_refcounts=on'] : []),
    ...(has('preallocated') ? ['preallocation=metadata'] : []),
    ...(dataFile ? [`data_file=${name}.data`] : []),
    ...(has('raw data file') ? ['data_file_raw=on'] : []),
  ];
  const below = NAMES[index - 1];
  const backing = below === undefined ? [] : ['-u', '-b', below, '-F', 'qcow2'];
  const args = ['-q', '-f', 'qcow2', '-o', options.join(','), ...backing, name, String(SIZE)];
  await mustIn(dir, 'qemu-img', 'create', ...args);
}

/** Writes of every kind; then what else the features ask for. */
async function fill(dir: string, layers: Layers, index: number): Promise<void> {
  const has = (feature: Feature) => layers[index]?.includes(feature) === true;
  const image = optionsOf(layers, index);
  const start = index * 90;
  const commands = [
    ...(has('compressed') && !has('preallocated') ? compressedWrites(clusterSizeOf(has)) : []),
    `write -P ${index + 1} ${start}k 300k`,
    `write -z ${start + 30}k 70k`,
    `write -P ${index + 11} ${start + 401}k 7k`,
    `write -P ${index + 21} 1199616 512`,
  ];
  const args = commands.flatMap((command) => ['-c', command]);
  const output = await mustIn(dir, 'qemu-io', ...OBJECTS, ...args, '--image-opts', image);
  expect(output).not.toMatch(/failed|error|invalid/i);
  if (has('snapshot')) {
    await mustIn(dir, 'qemu-img', 'snapshot', ...OBJECTS, '-c', 's', '--image-opts', image);
    const more = ['-c', `write -P 77 ${start + 5}k 20k`, '-c', `write -P 78 ${start + 210}k 3k`];
    await mustIn(dir, 'qemu-io', ...OBJECTS, ...more, '--image-opts', image);
  }
  if (has('bitmap')) {
    const [alone = ''] = image.split(',backing.');
    await mustIn(dir, 'qemu-img', 'bitmap', ...OBJECTS, '--add', '--image-opts', alone, 'b');
  }
}

function compressedWrites(clusterSize: number): readonly string[] {
  const cluster = (i: number) => `write -c -P ${50 + i} ${i * clusterSize} ${clusterSize}`;
  return clusterSize > SIZE ? [] : [cluster(13), cluster(14)].filter(() => 15 * clusterSize < SIZE);
}

async function view(dir: string, layers: Layers, top: number): Promise<Buffer> {
  const image = optionsOf(layers, top);
  await mustIn(dir, 'qemu-img', 'convert', ...OBJECTS, '--image-opts', image, '-O', 'raw', 'view');
  return readFileSync(join(dir, 'view'));
}

async function checkAll(dir: string, layers: Layers): Promise<void> {
  for (const [i, pair] of layers.entries()) {
    const image = optionsOf(layers, i);
    await mustIn(dir, 'qemu-img', 'check', ...OBJECTS, '--image-opts', image);
    if (!pair.includes('bitmap')) continue;
    const info = ['info', '-U', '--output=json', NAMES[i] ?? ''];
    expect(await mustIn(dir, 'qemu-img', ...info)).toMatch(/"name": "b"/);
  }
}

async function commitsBothWays(layers: Layers, byUs: boolean): Promise<void> {
  const dir = tempDir();
  for (const [i, pair] of layers.entries()) {
    const needsUs = keyOf(pair) !== undefined;
    await (byUs || needsUs ? createByUs : createByQemu)(dir, layers, i);
    await fill(dir, layers, i);
  }
  await checkAll(dir, layers);
  const before = await view(dir, layers, 2);
  const rival = tempDir();
  cpSync(dir, rival, { recursive: true });
  for (const top of [2, 1]) {
    const target = descriptionOf(dir, layers, top) as never;
    await commit(target, { host: nodeHost, secrets: SECRETS });
    expect((await view(dir, layers, 2)).equals(before), `after layer ${top}`).toBe(true);
    expect((await view(dir, layers, top - 1)).equals(before), `layer ${top - 1}`).toBe(true);
    await checkAll(dir, layers);
    const image = optionsOf(layers, top);
    await mustIn(rival, 'qemu-img', 'commit', '-q', ...OBJECTS, '--image-opts', image);
  }
  expect((await view(rival, layers, 0)).equals(before), 'base as QEMU commits').toBe(true);
  if (!layers[0].includes('raw data file') || keyOf(layers[0]) !== undefined) return;
  expect(readFileSync(join(dir, 'base.data')).subarray(0, SIZE).equals(before)).toBe(true);
}

test.each(
  CHAINS.map((layers, i) => ({
    name: layers.map((pair) => pair.join(' + ')).join(' <- '),
    layers,
    byUs: i % 2 === 0,
  })),
)('$name', ({ layers, byUs }) => commitsBothWays(layers, byUs));
