// Many clients at once, some of them mad: each gets what it wrote, and nothing is left of them
// afterwards.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { u32s } from '../../src/nbd/bytes.ts';
import { EndOfStream } from '../../src/nbd/stream-reader.ts';
import { serveFile } from '../support/nbd.ts';
import { RawClient } from '../support/nbd-bytes.ts';
import { type Load, loadSize, runLoad } from '../support/nbd-load.ts';
import { raveNbd } from '../support/noise.ts';
import { randomFrom } from '../support/power-cut.ts';
import { qemuImg } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const LOAD: Load = { connections: 64, requests: 60, depth: 4, seed: 1 };

async function serveLoad(options: Parameters<typeof serveFile>[1] = {}) {
  const file = join(tempDir(), 'disk.qcow2');
  await qemuImg('create', '-q', '-f', 'qcow2', file, String(loadSize(LOAD)));
  return { file, ...(await serveFile(file, options)) };
}

const descriptors = (): number => readdirSync('/proc/self/fd').length;

async function settled(server: { readonly connections: number }): Promise<void> {
  while (server.connections > 0) await new Promise((resolve) => setTimeout(resolve, 2));
}

describe('64 clients at once', () => {
  test('find what they wrote, and leave no descriptors behind', async () => {
    const { file, socket, server } = await serveLoad();
    await runLoad(socket, { ...LOAD, requests: 5 });
    await settled(server);
    const before = descriptors();
    await runLoad(socket, { ...LOAD, seed: 2 });
    await settled(server);
    expect(descriptors()).toBeLessThanOrEqual(before);
    await server.stop();
    expect(await qemuImg('check', '-U', file)).toContain('No errors were found');
  });

  test('wait for their turn where fewer may connect', async () => {
    const { socket, server } = await serveLoad({ server: { maxConnections: 3 } });
    let most = 0;
    const timer = setInterval(() => {
      most = Math.max(most, server.connections);
    }, 1);
    await runLoad(socket, { ...LOAD, connections: 20, requests: 20 });
    clearInterval(timer);
    expect(most).toBeLessThanOrEqual(3);
  });
});

describe('mad clients', () => {
  test.each([1, 2, 3])('sending random bytes disturb nobody (seed %i)', async (seed) => {
    const { socket, server } = await serveLoad();
    const random = randomFrom(seed);
    const mad = async () => {
      for (let i = 0; i < 12; i++) await raveNbd(socket, random);
    };
    await Promise.all([runLoad(socket, { ...LOAD, connections: 8, requests: 200 }), mad(), mad()]);
    await settled(server);
  });

  test('that say nothing are dropped in time, and those that serve go on', async () => {
    const { socket, server } = await serveLoad({ server: { handshakeTimeout: 50 } });
    const good = await readyInTime(socket);
    const silent = await RawClient.connect(socket);
    const half = await RawClient.greeted(socket);
    half.send(u32s(1, 2));
    await Promise.all([silent.ended(), half.ended()]);
    expect(server.connections).toBe(1);
    good.request(3, 0, 0);
    expect((await good.simple()).error).toBe(0);
  });
});

/** On a slow machine it takes more than one attempt. */
async function readyInTime(socket: string): Promise<RawClient> {
  for (;;) {
    try {
      return await RawClient.ready(socket);
    } catch (error) {
      if (!(error instanceof EndOfStream)) throw error;
    }
  }
}
