// What the library opens because a header names it, on this machine.

import { symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { trustingHost as engineHost } from '../../src/chain/trust.ts';
import { createImage, nodeHost, openChain, trustingHost } from '../../src/index.ts';
import { createNodeHost } from '../../src/io/node-host.ts';
import { tempDir } from '../support/temp.ts';

const refused = { name: 'ImageError', code: 'invalid' };
let dir: string;
let described: string;

beforeEach(async () => {
  dir = tempDir();
  writeFileSync(join(dir, 'base'), new Uint8Array(65_536));
  const file = JSON.stringify({ driver: 'raw', 'file.filename': join(dir, 'base') });
  described = join(dir, 'described');
  const below = { backingFile: `json:${file}`, backingFormat: 'raw' } as const;
  const host = trustingHost(nodeHost, { protocols: true });
  await (await createImage(described, { host, size: 65_536, ...below })).close();
});

test('a description in a header is refused by default', async () => {
  await expect(openChain(described)).rejects.toMatchObject(refused);
  await expect(openChain(described, { host: nodeHost })).rejects.toMatchObject(refused);
});

test('it is followed where that is allowed', async () => {
  const host = trustingHost(nodeHost, { protocols: true });
  await (await openChain(described, { host })).close();
});

test('a file that became a link after its path was looked at is refused, and not emptied', async () => {
  const machine = createNodeHost();
  const outside = join(tempDir(), 'outside');
  writeFileSync(outside, 'kept');
  const place = join(dir, 'swapped');
  // Whoever swaps it is as fast as can be: the look at the path sees the file that was there.
  const fooled = { ...machine, realPath: async (name: string) => name };
  const host = engineHost(fooled, { directories: [dir] });
  symlinkSync(outside, place);
  await expect(host.openStorage(place, { writable: false })).rejects.toMatchObject(refused);
  await expect(host.createStorage(place)).rejects.toMatchObject(refused);
  unlinkSync(place);
  const storage = await host.createStorage(place);
  await storage.close();
});
