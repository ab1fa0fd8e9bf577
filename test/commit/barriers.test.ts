// How often a commit waits for the disk: for each checkpoint and step, never for each table. Hundreds of
// tables are touched here; a handful of syncs has to do.

import { expect, test } from 'vitest';
import { asQcow2 } from '../../src/chain/chain.ts';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions } from '../../src/commit/options.ts';
import { nodeCodecs } from '../../src/io/codecs.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { MIB } from '../../src/units.ts';
import { addImage, type NamedImage } from '../support/named-images.ts';
import { pattern } from '../support/storage-contract.ts';
import { WatchedHost } from '../support/watched-host.ts';

const SIZE = 16 * MIB;
/** L2 tables that a top in clusters of 512 bytes touches: each covers 32 KiB. */
const TABLES = 512;

interface Kind {
  readonly request?: Omit<CommitOptions, 'host'>;
  readonly base?: NamedImage;
  readonly top?: NamedImage;
  readonly raw?: boolean;
  readonly middle?: boolean;
  readonly bitmap?: boolean;
  readonly zeros?: boolean;
  /** Syncs at most, of base and of all files. */
  readonly most: readonly [base: number, all: number];
}

const KINDS: Readonly<Record<string, Kind>> = {
  'into the backing file': { most: [5, 12] },
  'version 2': { base: { version: 2 }, top: { version: 2 }, most: [5, 11] },
  'clusters of 64 KiB': {
    base: { clusterSize: 65536 },
    top: { clusterSize: 65536 },
    most: [5, 11],
  },
  'a raw base': { raw: true, most: [1, 8] },
  zeros: { zeros: true, most: [5, 12] },
  '-d': { request: { drop: true }, most: [5, 5] },
  'a base that grows': { base: { size: SIZE / 2 }, most: [10, 17] },
  '--compress': { request: { compress: true }, most: [5, 12] },
  '--skip-identical': { request: { skipIdentical: true }, most: [5, 12] },
  'bitmaps that record': { bitmap: true, most: [10, 17] },
  '-b --relink --delete': {
    middle: true,
    request: { base: '/base', relink: true, delete: true },
    most: [5, 11],
  },
  '--top': { middle: true, request: { base: '/base', top: '/middle' }, most: [5, 11] },
};

async function scattered(host: WatchedHost, name: string, zeros: boolean): Promise<void> {
  await using chain = await openChain(name, { host, writable: true });
  const bytes = pattern(512, 1);
  for (let at = 0; at < SIZE; at += SIZE / TABLES) {
    if (zeros) await chain.top.zero(at, 512);
    else await chain.write(at, bytes);
  }
}

test.each(Object.entries(KINDS))('%s', async (_what, kind) => {
  const host = Object.assign(new WatchedHost(), { codecs: nodeCodecs });
  const shape = { size: SIZE, clusterSize: 512 };
  if (kind.raw) host.addFile('/base', new Uint8Array(SIZE));
  else await addImage(host, '/base', { ...shape, ...kind.base });
  const names = kind.middle ? ['/middle', '/top'] : ['/top'];
  for (const [i, name] of names.entries()) {
    const backingFile = names[i - 1]?.slice(1) ?? 'base';
    const backingFormat = backingFile === 'base' && kind.raw ? 'raw' : 'qcow2';
    await addImage(host, name, { ...shape, ...kind.top, backingFile, backingFormat });
    await scattered(host, name, kind.zeros === true);
  }
  if (kind.bitmap) {
    await using chain = await openChain('/base', { host, writable: true });
    const base = asQcow2(chain.top);
    await base.changeBitmaps(async (bitmaps) => addBitmap(bitmaps, base, 'b', 512));
  }
  const syncs = new Map<string, number>();
  host.watch = ({ filename, kind }) => {
    if (kind === 'flush') syncs.set(filename, (syncs.get(filename) ?? 0) + 1);
  };
  await commit('/top', { host, ...kind.request });
  const [base, all] = kind.most;
  const total = [...syncs.values()].reduce((sum, count) => sum + count, 0);
  expect(syncs.get('/base') ?? 0).toBeLessThanOrEqual(base);
  expect(total).toBeLessThanOrEqual(all);
});

test('--reclaim: so many for each window, whatever it holds', async () => {
  const perWindow: number[] = [];
  for (const reclaimWindow of [SIZE, 32 * 1024]) {
    const host = new WatchedHost();
    const shape = { size: SIZE, clusterSize: 512 };
    await addImage(host, '/base', shape);
    await addImage(host, '/top', { ...shape, backingFile: 'base', backingFormat: 'qcow2' });
    await scattered(host, '/top', false);
    let syncs = 0;
    host.watch = ({ kind }) => {
      if (kind === 'flush') syncs++;
    };
    await commit('/top', { host, reclaim: true, reclaimWindow });
    const windows = Math.max(1, (TABLES * 512) / reclaimWindow);
    perWindow.push(syncs / windows);
  }
  expect(Math.max(...perWindow.slice(1))).toBeLessThanOrEqual(12);
  expect(perWindow[0]).toBeLessThanOrEqual(30);
});
