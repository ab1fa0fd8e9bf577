// What `--relink --delete` was stopped from removing is found again by the note in the relinked header.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { leftBehind } from '../../src/qcow2/backing.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { pattern } from '../../src/testing.ts';
import { expectBytes, viewThrough } from '../support/memory-images.ts';
import { addChain, addImage, DISK } from '../support/named-images.ts';

const FORM = { base: '/base', relink: true, delete: true } as const;

async function write(host: MemoryHost, name: string, at: number, seed: number): Promise<void> {
  await using chain = await openChain(name, { host, writable: true });
  await chain.write(at, pattern(5000, seed));
}

async function noteIn(host: MemoryHost): Promise<string | null> {
  const storage = await host.openStorage('/top', { writable: false });
  return leftBehind(await Qcow2Image.readHeader(storage));
}

/** Relinked; the first removal failed. */
async function stopped(clusterSize = 4096): Promise<MemoryHost> {
  const host = new MemoryHost();
  await addChain(host, '/base', '/one', '/two');
  const below = { backingFile: 'two', backingFormat: 'qcow2' };
  await addImage(host, '/top', { ...below, size: DISK, clusterSize });
  await write(host, '/one', 0, 1);
  await write(host, '/two', 3000, 2);
  await write(host, '/top', 6000, 3);
  const remove = host.remove.bind(host);
  host.remove = async (filename) => {
    throw new ImageError('io', `Could not remove '${filename}'`, { errno: 'EIO' });
  };
  await expect(commit('/top', { host, ...FORM })).rejects.toMatchObject({
    hint: expect.stringContaining("'/one', '/two'"),
  });
  host.remove = remove;
  return host;
}

const left = (host: MemoryHost) =>
  ['/one', '/two'].filter((name) => host.fileBytes(name) !== undefined);

test('the same command removes them, and the note', async () => {
  const host = await stopped();
  expect(await noteIn(host)).toBe('two');
  const view = await viewThrough(host, '/top');
  const { plan } = await commit('/top', { host, ...FORM });
  expect(plan.deletes).toEqual(['/two', '/one']);
  expect(left(host)).toEqual([]);
  expect(await noteIn(host)).toBeNull();
  expectBytes(await viewThrough(host, '/top'), view);
});

test('also when the guest has written meanwhile', async () => {
  const host = await stopped();
  await write(host, '/top', 20_000, 4);
  await write(host, '/top', 0, 5);
  await commit('/top', { host, ...FORM });
  expect(left(host)).toEqual([]);
});

test('a dry run tells of them, and leaves them', async () => {
  const host = await stopped();
  const { plan } = await commit('/top', { host, ...FORM, dryRun: true });
  expect(plan).toMatchObject({ deletes: ['/two', '/one'], refusals: [] });
  expect(left(host)).toEqual(['/one', '/two']);
});

test('without --delete they stay, until it is asked for', async () => {
  const host = await stopped();
  await commit('/top', { host, base: '/base', relink: true, force: true });
  expect(left(host)).toEqual(['/one', '/two']);
  await commit('/top', { host, ...FORM });
  expect(left(host)).toEqual([]);
});

test('they stay where somebody has come to stand on one', async () => {
  const host = await stopped();
  await addImage(host, '/new', { backingFile: 'two', backingFormat: 'qcow2', size: DISK });
  for (const force of [false, true]) {
    await expect(commit('/top', { host, ...FORM, force })).rejects.toMatchObject({
      code: 'siblings',
      message: expect.stringContaining("needed by '/new'"),
    });
  }
  expect(left(host)).toEqual(['/one', '/two']);
});

test('they stay where they have come to hold anything else', async () => {
  const host = await stopped();
  await write(host, '/two', 40_000, 6);
  await expect(commit('/top', { host, ...FORM })).rejects.toMatchObject({
    code: 'invalid',
    message: "'/base' does not hold all that there is in '/two', '/one'",
    hint: expect.stringContaining('The commit itself is complete'),
  });
  expect(left(host)).toEqual(['/one', '/two']);
});

test('they stay where the name has come to mean something else', async () => {
  const host = await stopped();
  await addImage(host, '/two', { size: DISK, filled: 9 });
  await commit('/top', { host, ...FORM, force: true });
  expect(left(host)).toEqual(['/one', '/two']);
});

test('a header without room for the note is relinked all the same', async () => {
  const long = 'x'.repeat(230);
  const host = new MemoryHost();
  await addChain(host, '/base', `/${long}`);
  const below = { backingFile: long, backingFormat: 'qcow2', size: DISK };
  await addImage(host, '/top', { ...below, clusterSize: 512 });
  await commit('/top', { host, ...FORM });
  expect(host.fileBytes(`/${long}`)).toBeUndefined();
  expect(await noteIn(host)).toBeNull();
});
