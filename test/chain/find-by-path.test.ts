// A name with a protocol that nobody knows is in no chain; it is no error of its own.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { addChain } from '../support/named-images.ts';

test('findByPath takes a name with another protocol for none', async () => {
  const host = new MemoryHost();
  await addChain(host, '/base', '/top');
  await using chain = await openChain('/top', { host });
  expect(await chain.findByPath('nbd:base')).toBeUndefined();
});

test('a base with another protocol is not found in the chain', async () => {
  const host = new MemoryHost();
  await addChain(host, '/base', '/top');
  await expect(commit('/top', { host, base: 'json:{}' })).rejects.toMatchObject({
    code: 'not-found',
    message: "Did not find 'json:{}' in the backing chain of '/top'",
  });
});
