// Images that are given another backing file, or none.

import { openChain } from '../../../src/chain/open.ts';
import { rebase } from '../../../src/commit/rebase.ts';
import type { RebaseOptions } from '../../../src/commit/rebase-options.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { eitherScene } from './either.ts';
import { buildLayers, type LayerSpec } from './layers.ts';
import { type CrashOperation, commandScene, ensure, openState, viewDigest } from './scene.ts';

interface RebaseCase {
  readonly name: string;
  /** `/top` is rebased. */
  readonly layers: readonly LayerSpec[];
  readonly request: Omit<RebaseOptions, 'host'>;
}

const THREE: readonly LayerSpec[] = [{ name: '/base' }, { name: '/mid' }, { name: '/top' }];
/** Stands on nothing. */
const OTHER: LayerSpec = { name: '/other', on: '', writes: 5 };
const LONG = 'other'.repeat(30);
/** Has no room in the first sector of a header. */
const LONGER = 'other'.repeat(50);
const LONG_OTHER: LayerSpec = { ...OTHER, name: `/${LONG}` };
const TO_BASE = { backing: 'base', backingFormat: 'qcow2' };
const TO_OTHER = { backing: 'other', backingFormat: 'qcow2' };

const CASES: readonly RebaseCase[] = [
  { name: 'onto a lower layer', layers: THREE, request: TO_BASE },
  {
    name: 'onto another chain over the same layer',
    layers: [...THREE, { name: '/low', on: '/base' }, { name: '/other', on: '/low' }],
    request: TO_OTHER,
  },
  { name: 'onto another image', layers: [...THREE, OTHER], request: TO_OTHER },
  {
    name: 'onto none',
    layers: [{ name: '/base' }, { name: '/mid' }, { name: '/top', clusterSize: 1024 }],
    request: { backing: '' },
  },
  {
    name: 'onto none, extensions past the first sector',
    layers: [{ name: '/base' }, { name: '/top', clusterSize: 8192, writes: 2 }],
    request: { backing: '' },
  },
  {
    name: 'onto a shorter image',
    layers: [...THREE, { ...OTHER, sectors: 40 }],
    request: TO_OTHER,
  },
  {
    name: 'from a shorter image onto a longer one',
    layers: [{ name: '/base', sectors: 30 }, { name: '/top' }, { ...OTHER, sectors: 140 }],
    request: TO_OTHER,
  },
  {
    name: 'onto a raw image',
    layers: [{ name: '/base' }, { name: '/top' }, { name: '/other.raw', on: '' }],
    request: { backing: 'other.raw', backingFormat: 'raw' },
  },
  {
    name: 'version 2, onto a longer name',
    layers: [{ name: '/base' }, { name: '/top', version: 2, clusterSize: 1024 }, LONG_OTHER],
    request: { backing: LONG, backingFormat: 'qcow2' },
  },
  {
    name: 'onto a longer name, extensions past the first sector',
    layers: [
      { name: '/base' },
      { name: '/top', clusterSize: 8192, writes: 2 },
      { ...OTHER, name: `/${LONGER}` },
    ],
    request: { backing: LONGER, backingFormat: 'qcow2' },
  },
  {
    name: 'version 2, onto none',
    layers: [{ name: '/base' }, { name: '/top', version: 2 }],
    request: { backing: '' },
  },
  {
    name: 'extended L2 entries',
    layers: [
      { name: '/base' },
      { name: '/top', extendedL2: true, clusterSize: 16384 },
      { ...OTHER, extendedL2: true, clusterSize: 16384 },
    ],
    request: TO_OTHER,
  },
  {
    name: 'an image without a backing file, with a snapshot',
    layers: [OTHER, { name: '/top', on: '', snapshot: true }],
    request: { ...TO_OTHER, force: true },
  },
  {
    name: 'an external data file',
    layers: [{ name: '/base' }, { name: '/top', dataFile: 'top.data' }, OTHER],
    request: TO_OTHER,
  },
  {
    name: 'bitmaps that record',
    layers: [
      { name: '/base' },
      { name: '/mid' },
      { name: '/top', clusterSize: 1024, bitmaps: ['a', 'still'] },
    ],
    request: TO_BASE,
  },
  {
    name: 'lazy refcounts, not closed',
    layers: [
      { name: '/base' },
      { name: '/mid' },
      { name: '/top', lazyRefcounts: true, dirty: true },
    ],
    request: TO_BASE,
  },
];

async function backingOf(host: MemoryHost): Promise<string> {
  await using chain = await openChain('/top', { host });
  return chain.layers[1]?.storedName ?? '';
}

const safe = ({ name, layers, request }: RebaseCase): CrashOperation => ({
  name: `rebase: ${name}`,
  async prepare(random) {
    const files = await buildLayers(layers, random);
    const names = [await backingOf(openState(files)), request.backing];
    return commandScene(files, {
      tops: ['/top'],
      run: async (host) => void (await rebase('/top', { ...request, host })),
      async judge(state) {
        const found = await backingOf(state);
        ensure(names.includes(found), `the backing file is '${found}'`);
      },
    });
  },
});

/** The header alone: what is seen is what belongs to the one name or the other. */
const unsafe = (name: string, layers: readonly LayerSpec[], backing: string): CrashOperation => ({
  name: `rebase: -u, ${name}`,
  async prepare(random) {
    const request = { backing, ...(backing !== '' && { backingFormat: 'qcow2' }), unsafe: true };
    return eitherScene(await buildLayers(layers, random), {
      describe: async (host) => `${await backingOf(host)} ${await viewDigest(host, '/top')}`,
      run: async (host) => void (await rebase('/top', { ...request, host })),
    });
  },
});

export const REBASES = [
  ...CASES.map(safe),
  unsafe('onto a longer name', [...THREE, LONG_OTHER], LONG),
  unsafe('onto none', THREE, ''),
  unsafe(
    'onto none, extensions past the first sector',
    [{ name: '/base' }, { name: '/top', clusterSize: 8192 }],
    '',
  ),
  unsafe(
    'version 2',
    [{ name: '/base' }, { name: '/top', version: 2, snapshot: true }, OTHER],
    'other',
  ),
];
