// A commit in which a single change fails, each of them in turn: it rejects with that error, the
// view through the top stays, nothing is corrupt, and another run completes it.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions } from '../../src/commit/options.ts';
import { ImageError } from '../../src/errors.ts';
import { expectBytes, findingsIn, viewThrough } from '../support/memory-images.ts';
import { addImage } from '../support/named-images.ts';
import { pattern } from '../support/storage-contract.ts';
import { type Change, WatchedHost } from '../support/watched-host.ts';

const SIZE = 120 * 512;

/** Data, zeros and nothing in each layer, also within single clusters; the base has to grow. */
async function threeLayers(version: 2 | 3): Promise<WatchedHost> {
  const host = new WatchedHost();
  const shape = { clusterSize: 1024, version };
  await addImage(host, '/base', { ...shape, size: SIZE / 2, filled: 1 });
  const below = (backingFile: string) => ({ backingFile, backingFormat: 'qcow2' });
  await addImage(host, '/mid', { ...shape, ...below('base'), size: SIZE / 4 });
  await addImage(host, '/top', { ...shape, ...below('mid'), size: SIZE });
  for (const [name, at] of [
    ['/mid', 700],
    ['/top', 9000],
  ] as const) {
    await using chain = await openChain(name, { host, writable: true });
    await chain.write(at, pattern(5000, at));
    await chain.top.zero(at + 3000, 1500);
  }
  return host;
}

const broken = () => new ImageError('io', 'broken', { errno: 'EIO' });

/** Runs a commit whose change number `n` fails; false when there is no such change. */
async function failsAt(host: WatchedHost, form: Form, n: number): Promise<boolean> {
  let failed: Change | undefined;
  let count = 0;
  host.watch = (change) => {
    if (count++ !== n) return;
    failed = change;
    throw broken();
  };
  const outcome = await commit('/top', { host, ...form }).catch((error: unknown) => error);
  host.watch = () => undefined;
  if (failed === undefined) return false;
  expect(outcome).toBeInstanceOf(ImageError);
  expect(outcome).toMatchObject({ errno: 'EIO' });
  return true;
}

type Form = Omit<CommitOptions, 'host'>;
const RECLAIMING: Form = { reclaim: true, reclaimWindow: 3000 };

test.each<[string, 2 | 3, string, Form]>([
  ['into the backing file', 3, '/mid', {}],
  ['into the backing file, version 2', 2, '/mid', {}],
  ['into the base, with relink', 3, '/base', { base: '/base', relink: true }],
  ['into the base, with relink, version 2', 2, '/base', { base: '/base', relink: true }],
  ['into the backing file, reclaiming', 3, '/mid', RECLAIMING],
  ['into the base, reclaiming', 3, '/base', { base: '/base', ...RECLAIMING }],
  ['into the base, reclaiming, version 2', 2, '/base', { base: '/base', ...RECLAIMING }],
])('%s', async (_what, version, base, form) => {
  for (let n = 0; ; n++) {
    const host = await threeLayers(version);
    const view = await viewThrough(host, '/top');
    const reached = await failsAt(host, form, n);
    expectBytes(await viewThrough(host, '/top'), view, `the view, change ${n} failed`);
    for (const name of ['/base', '/mid', '/top']) {
      const storage = await host.openStorage(name, { writable: false });
      const { corruptions } = await findingsIn(storage);
      expect({ n, name, corruptions }).toEqual({ n, name, corruptions: 0 });
    }
    // Once the top is relinked, the dead layers between look like siblings.
    await commit('/top', { host, ...form, force: true });
    expectBytes(await viewThrough(host, '/top'), view, `another run, change ${n} failed`);
    expectBytes((await viewThrough(host, base)).subarray(0, view.length), view, 'base');
    if (!reached) break;
  }
});
