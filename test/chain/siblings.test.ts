// Who else stands on a file.

import { expect, test } from 'vitest';
import { findSiblings } from '../../src/chain/siblings.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { addChain, addImage } from '../support/named-images.ts';

const find = (
  host: MemoryHost,
  changing: readonly string[],
  stable: readonly string[] = [],
  directories: readonly string[] = ['/d/'],
) => findSiblings({ host, directories, changing: new Set(changing), stable: new Set(stable) });

async function tree(): Promise<MemoryHost> {
  const host = new MemoryHost();
  await addChain(host, '/d/base', '/d/mid', '/d/top', '/d/active');
  return host;
}

test('what stands on a file that changes, directly or not, by name', async () => {
  const host = await tree();
  await addImage(host, '/d/b', { backingFile: 'base' });
  await addImage(host, '/d/a', { backingFile: '/d/b' });
  expect(await find(host, ['/d/base'], ['/d/mid', '/d/top', '/d/active'])).toEqual([
    '/d/a',
    '/d/b',
  ]);
});

test('what stands on a layer whose view stays is none', async () => {
  const host = await tree();
  await addImage(host, '/d/other', { backingFile: 'top' });
  expect(await find(host, ['/d/base', '/d/mid'], ['/d/top'])).toEqual([]);
});

test('what changes itself is none, what stands on it is one', async () => {
  const host = await tree();
  expect(await find(host, ['/d/base', '/d/mid'])).toEqual(['/d/active', '/d/top']);
});

test('images of another chain, raw files and rubbish are none', async () => {
  const host = await tree();
  await addChain(host, '/d/x', '/d/y');
  host.addFile('/d/raw', new Uint8Array(5000));
  host.addFile('/d/empty', new Uint8Array());
  host.addFile('/d/broken', host.fileBytes('/d/top')?.subarray(0, 40) ?? new Uint8Array());
  await addImage(host, '/d/remote', { backingFile: 'nbd:base' });
  await addImage(host, '/d/orphan', { backingFile: 'gone' });
  expect(await find(host, ['/d/base'], ['/d/mid'])).toEqual([]);
});

test('a chain is followed into directories that nobody looks in', async () => {
  const host = await tree();
  await addImage(host, '/far/link', { backingFile: '../d/base' });
  await addImage(host, '/d/over', { backingFile: '../far/link' });
  expect(await find(host, ['/d/base'], ['/d/mid'])).toContain('/d/over');
});

test('each directory is looked in once, however it is named', async () => {
  const host = await tree();
  await addImage(host, '/d/other', { backingFile: 'base' });
  const found = await find(host, ['/d/base'], ['/d/mid'], ['/d/', '/d/', '/d/../d/']);
  expect(found).toEqual(['/d/other']);
});

test('files in the working directory are named without it', async () => {
  const host = new MemoryHost();
  await addChain(host, 'base', 'top');
  expect(await find(host, ['/base'], [], ['./'])).toEqual(['top']);
});

test('a loop of strangers comes to an end', async () => {
  const host = await tree();
  await addImage(host, '/d/l1', { backingFile: 'l2' });
  await addImage(host, '/d/l2', { backingFile: 'l1' });
  expect(await find(host, ['/d/base'], ['/d/mid'])).toEqual([]);
});

test('a directory that can not be read is told', async () => {
  const host = await tree();
  const missing = find(host, ['/d/base'], [], ['/nope/']);
  await expect(missing).rejects.toMatchObject({ code: 'not-found' });
});
