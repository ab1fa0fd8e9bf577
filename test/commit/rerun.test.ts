// After a commit with relink the layers between are dead, but they still stand on the base: that
// does not keep the same commit, run again as the hint of an interrupted one advises, from ending.

import { expect, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import { ImageError } from '../../src/errors.ts';
import { addChain } from '../support/named-images.ts';
import { WatchedHost } from '../support/watched-host.ts';

test('a commit whose very last flush failed can be run again', async () => {
  const host = new WatchedHost();
  await addChain(host, '/base', '/mid', '/top');
  let switched = false;
  host.watch = (change) => {
    if (change.filename !== '/top') return;
    if (change.kind === 'write' && change.offset === 0) switched = true;
    if (switched && change.kind === 'flush') {
      throw new ImageError('io', 'broken', { errno: 'EIO' });
    }
  };
  const form = { host, base: '/base', relink: true };
  await expect(commit('/top', form)).rejects.toMatchObject({
    hint: expect.stringContaining('the same command completes the commit'),
  });
  host.watch = () => undefined;
  await commit('/top', form);
});
