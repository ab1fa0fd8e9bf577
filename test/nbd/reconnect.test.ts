// A connection that is lost: what waits, what fails, and that nothing which was acknowledged is lost with
// a server that is started anew.

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Disk } from '../../src/daemon/disk.ts';
import { NbdServer } from '../../src/daemon/nbd-server.ts';
import type { NbdTarget } from '../../src/io/host.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { Storage } from '../../src/io/storage.ts';
import { nodeHost } from '../../src/nbd/node-host.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { expectBytes } from '../support/memory-images.ts';
import { exportsOf } from '../support/nbd.ts';
import { qemuImg } from '../support/qemu.ts';
import { newSocket, qemuNbd } from '../support/qemu-nbd.ts';
import { pattern } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

const SIZE = 256 * 1024;

async function open(socket: string, more: Partial<NbdTarget> = {}): Promise<Storage> {
  const server = { type: 'unix', path: socket } as const;
  const named = { filename: 'disk', server, export: '', reconnectDelay: 0, openTimeout: 0 };
  const storage = await nodeHost.openNbd?.({ ...named, ...more }, { writable: true });
  if (storage === undefined) throw new Error('this machine knows no NBD');
  onTestFinished(() => storage.close());
  return storage;
}

async function listen(path: string, memory: MemoryStorage): Promise<NbdServer> {
  const served = { name: '', disk: new Disk(new RawImage(memory)), writable: true };
  const address = { type: 'unix', path } as const;
  const server = await NbdServer.start({ address, exports: exportsOf(served) });
  onTestFinished(() => server.stop());
  return server;
}

describe('with a delay', () => {
  test('requests wait for the server, and find it', async () => {
    const socket = newSocket();
    const memory = new MemoryStorage(pattern(SIZE, 1));
    const first = await listen(socket, memory);
    const storage = await open(socket, { reconnectDelay: 60 });
    await first.stop();
    const bytes = new Uint8Array(SIZE);
    const reading = storage.read(0, bytes);
    const writing = storage.write(0, pattern(1000, 2), 'data');
    await listen(socket, memory);
    await Promise.all([reading, writing]);
    expectBytes(memory.bytes().subarray(0, 1000), pattern(1000, 2));
    expectBytes(bytes.subarray(1000), pattern(SIZE, 1).subarray(1000));
  });

  test('what a server forgot is sent again, in order', async () => {
    const socket = newSocket();
    const old = new MemoryStorage(pattern(SIZE, 1));
    const first = await listen(socket, old);
    const storage = await open(socket, { reconnectDelay: 60 });
    await storage.write(0, pattern(5000, 2), 'data');
    await storage.flush();
    const durable = old.bytes();
    await storage.write(3000, pattern(5000, 3), 'data');
    await storage.zero(4000, 1000, 'data');
    await storage.write(4500, pattern(100, 4), 'data');
    await first.stop();
    // As if its machine had lost its power.
    const anew = new MemoryStorage(durable);
    await listen(socket, anew);
    await storage.flush();
    expectBytes(anew.bytes(), old.bytes());
  });

  test('a server with another disk is none', async () => {
    const socket = newSocket();
    const first = await listen(socket, new MemoryStorage(pattern(SIZE, 1)));
    const storage = await open(socket, { reconnectDelay: 60 });
    await first.stop();
    await listen(socket, new MemoryStorage(pattern(2 * SIZE, 1)));
    await expect(storage.read(0, new Uint8Array(512))).rejects.toMatchObject({ errno: 'EIO' });
  });

  test('qemu-nbd may be killed in the middle', async () => {
    const file = join(tempDir(), 'disk.raw');
    await qemuImg('create', '-q', '-f', 'raw', file, String(4 * SIZE));
    const socket = newSocket();
    let server = await qemuNbd(file, ['-f', 'raw'], socket);
    const storage = await open(socket, { reconnectDelay: 60 });
    const expected = new Uint8Array(4 * SIZE);
    const write = async (n: number) => {
      const bytes = pattern(10_000, n);
      expected.set(bytes, n * 10_000);
      await storage.write(n * 10_000, bytes, 'data');
    };
    const writing = Promise.all(Array.from({ length: 60 }, (_, n) => write(n)));
    for (let kills = 0; kills < 3; kills++) {
      await server.stop('SIGKILL');
      server = await qemuNbd(file, ['-f', 'raw'], socket);
    }
    await writing;
    await storage.flush();
    const copy = join(tempDir(), 'copy.raw');
    copyFileSync(file, copy);
    const bytes = new Uint8Array(4 * SIZE);
    await storage.read(0, bytes);
    expectBytes(bytes, expected);
  });
});

describe('without one', () => {
  test('requests fail, and later ones try again', async () => {
    const socket = newSocket();
    const memory = new MemoryStorage(pattern(SIZE, 1));
    const first = await listen(socket, memory);
    const storage = await open(socket);
    await first.stop();
    const bytes = new Uint8Array(512);
    await expect(storage.read(0, bytes)).rejects.toMatchObject({
      code: 'io',
      errno: 'EIO',
      message: "Could not read from 'disk': the connection to the server is gone",
    });
    await listen(socket, memory);
    await storage.read(0, bytes);
    expectBytes(bytes, pattern(512, 1));
  });

  test('a flush says that what was written may be lost, from then on', async () => {
    const socket = newSocket();
    const memory = new MemoryStorage(pattern(SIZE, 1));
    const first = await listen(socket, memory);
    const storage = await open(socket);
    await storage.write(0, pattern(512, 2), 'data');
    await first.stop();
    await expect(storage.read(0, new Uint8Array(512))).rejects.toMatchObject({ errno: 'EIO' });
    await listen(socket, memory);
    for (let i = 0; i < 2; i++) {
      await expect(storage.flush()).rejects.toMatchObject({
        errno: 'EIO',
        message:
          "Could not flush 'disk': the connection was lost before what was written was durable",
      });
    }
  });
});

test('opening waits as long as it is told', async () => {
  const socket = newSocket();
  const memory = new MemoryStorage(pattern(SIZE, 1));
  const opening = open(socket, { openTimeout: 60 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  await listen(socket, memory);
  expect((await opening).size).toBe(SIZE);
});
