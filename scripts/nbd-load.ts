// Load on our NBD server: many connections, many requests each, in one process; prints what it took and
// whether memory or descriptors grew.
//   npx tsx scripts/nbd-load.ts [--connections 64] [--requests 100000] [--depth 8]

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openChain } from '../src/chain/open.ts';
import { Disk } from '../src/daemon/disk.ts';
import { NbdServer } from '../src/daemon/nbd-server.ts';
import { nodeHost } from '../src/io/node-host.ts';
import { createImage } from '../src/qcow2/create.ts';
import { loadSize, runLoad } from '../test/support/nbd-load.ts';
import { makeTemp } from '../test/support/temp.ts';

const number = { type: 'string' } as const;
const { values } = parseArgs({
  options: { connections: number, requests: number, depth: number, rounds: number },
});
const load = {
  connections: Number(values.connections ?? 64),
  requests: Number(values.requests ?? 100_000),
  depth: Number(values.depth ?? 8),
  seed: 1,
};
const rounds = Number(values.rounds ?? 10);

async function main(): Promise<void> {
  const { dir, cleanup } = makeTemp();
  const file = join(dir, 'disk.qcow2');
  const storage = await nodeHost.createStorage(file);
  await (await createImage(storage, { size: loadSize(load) })).close();
  const chain = await openChain(file, { host: nodeHost, writable: true });
  const served = { name: '', disk: new Disk(chain.top), writable: true };
  const path = join(dir, 'nbd.sock');
  const exports = { find: () => served, list: () => [served] };
  const server = await NbdServer.start({ address: { type: 'unix', path }, exports });
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    const requests = Math.ceil(load.requests / rounds);
    await runLoad(path, { ...load, requests, seed: round + 1 });
    const seconds = (performance.now() - start) / 1000;
    const rate = Math.round((requests * load.connections) / seconds);
    const memory = Math.round(process.memoryUsage().rss / 2 ** 20);
    const descriptors = readdirSync('/proc/self/fd').length;
    console.log(
      `round ${round + 1}: ${rate} requests/s, ${memory} MiB, ${descriptors} descriptors`,
    );
  }
  await server.stop();
  await chain.close();
  cleanup();
}

await main();
