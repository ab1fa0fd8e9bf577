// A commit between encrypted layers with different keys.

import { openChain } from '../../../src/chain/open.ts';
import { commit } from '../../../src/commit/commit.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { pattern } from '../../../src/testing.ts';
import { filesIn, type Random } from '../crash.ts';
import { aes, encryptedIn, luks, utf8 } from '../encrypted.ts';
import { type CrashOperation, commandScene, newHost } from './scene.ts';

const SECRETS = new Map([
  ['l', utf8('one')],
  ['a', utf8('two')],
]);
const node = (name: string, secret: string) => ({
  driver: 'qcow2',
  encrypt: { 'key-secret': secret },
  file: { driver: 'file', filename: name },
});
const BASE = node('/base', 'l');
const TOP = `json:${JSON.stringify({ ...node('/top', 'a'), backing: BASE })}`;
const DISK = { size: 100 * 1024, clusterSize: 1024 };

async function write(host: MemoryHost, name: string, random: Random): Promise<void> {
  await using chain = await openChain(name, { host, secrets: SECRETS, writable: true });
  for (let i = 0; i < 3; i++) {
    const at = random(DISK.size / 512) * 512;
    const length = Math.min((1 + random(40)) * 512, DISK.size - at);
    if (i === 1) await chain.zero(at, length);
    else await chain.write(at, pattern(length, random(1000)));
  }
}

async function build(random: Random) {
  const host = newHost();
  const base = await host.createStorage('/base');
  await (await encryptedIn(base, { ...DISK, encryption: luks('one') })).close();
  await write(host, `json:${JSON.stringify(BASE)}`, random);
  const top = await host.createStorage('/top');
  const backing = { backingFile: 'base', backingFormat: 'qcow2' };
  await (await encryptedIn(top, { ...DISK, ...backing, encryption: aes('two') })).storage.close();
  await write(host, TOP, random);
  return filesIn(host, ['/base', '/top']);
}

const operation: CrashOperation = {
  name: 'commit: encrypted on both sides, with different keys',
  async prepare(random) {
    return commandScene(await build(random), {
      tops: [TOP],
      secrets: SECRETS,
      run: async (host) => void (await commit(TOP, { host, secrets: SECRETS })),
    });
  },
};

export const COMMIT_ENCRYPTED = [operation];
