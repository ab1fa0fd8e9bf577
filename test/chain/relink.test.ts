// The name that an overlay gets for its new backing file.

import { describe, expect, test } from 'vitest';
import { asQcow2 } from '../../src/chain/chain.ts';
import { openChain } from '../../src/chain/open.ts';
import { prepareRelink, relink } from '../../src/chain/relink.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { addImage } from '../support/named-images.ts';

interface Names {
  readonly base: string;
  readonly mid: string;
  /** As mid stores it. */
  readonly stored: string;
  readonly top: string;
  /** As top stores mid. */
  readonly above: string;
}

const FLAT: Names = { base: '/d/base', mid: '/d/mid', stored: 'base', top: '/d/top', above: 'mid' };

async function chainOf({ base, mid, stored, top, above }: Names) {
  const host = new MemoryHost();
  await addImage(host, base);
  await addImage(host, mid, { backingFile: stored, backingFormat: 'qcow2' });
  await addImage(host, top, { backingFile: above, backingFormat: 'qcow2' });
  return { host, chain: await openChain(top, { host, writable: true }) };
}

describe('the new name', () => {
  test.each<[string, Partial<Names>, string]>([
    ['as it is stored, in the same directory', {}, 'base'],
    ['as it is stored, in the same directory, with dots', { stored: './base' }, './base'],
    ['absolute as it is stored', { stored: '/d/base' }, '/d/base'],
    ['absolute from elsewhere', { stored: '/d/base', top: '/e/top', above: '../d/mid' }, '/d/base'],
    ['relative from elsewhere', { top: '/d/e/top', above: '../mid' }, '../base'],
    ['relative into a directory', { top: '/top', above: 'd/mid' }, 'd/base'],
    ['absolute where mid was named absolute', { top: '/e/top', above: '/d/mid' }, '/d/base'],
    ['relative across', { mid: '/m/mid', stored: '../d/base', above: '../m/mid' }, 'base'],
  ])('is %s', async (_what, names, expected) => {
    const { host, chain } = await chainOf({ ...FLAT, ...names });
    const prepared = await prepareRelink(host, asQcow2(chain.top), chain.at(2), chain.at(1));
    expect(prepared).toMatchObject({ name: expected, format: 'qcow2' });
    await relink(prepared);
    await chain.close();
    await using after = await openChain(chain.at(0).filename, { host });
    expect(after.layers).toHaveLength(2);
    expect(after.at(1)).toMatchObject({ id: chain.at(2).id, storedName: expected });
    expect(after.at(1).formatKnown).toBe(true);
  });
});

test('a name that would lead elsewhere is refused', async () => {
  const { host, chain } = await chainOf(FLAT);
  // Another file has the base's name now.
  const base = { ...chain.at(2), id: '/somewhere/else' };
  const prepared = prepareRelink(host, asQcow2(chain.top), base, chain.at(1));
  await expect(prepared).rejects.toMatchObject({
    code: 'invalid',
    message: "/d/top can't be relinked: 'base', seen from its directory, is not '/d/base'",
  });
});

test('a name without room is refused before anything is written', async () => {
  const long = `/${'x'.repeat(370)}/base`;
  const { host, chain } = await chainOf({ ...FLAT, base: long, stored: `..${long}` });
  await addImage(host, '/e/small', { clusterSize: 512, backingFile: '../d/mid' });
  const before = host.fileBytes('/e/small');
  await using small = await openChain('/e/small', { host, writable: true });
  const prepared = prepareRelink(host, asQcow2(small.top), chain.at(2), chain.at(1));
  await expect(prepared).rejects.toMatchObject({ code: 'invalid' });
  expect(host.fileBytes('/e/small')).toEqual(before);
});
