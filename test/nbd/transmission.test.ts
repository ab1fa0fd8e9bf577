// The server's transmission phase, spoken to with hand-made bytes: replies in both forms, requests that
// are refused, requests that end the connection, and what is bounded.

import { describe, expect, test } from 'vitest';
import { Disk } from '../../src/daemon/disk.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { readU64, u32s, viewOf } from '../../src/nbd/bytes.ts';
import type { NbdDisk } from '../../src/nbd/export.ts';
import * as spec from '../../src/nbd/spec.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { expectBytes, memoryImage } from '../support/memory-images.ts';
import { serveExports } from '../support/nbd.ts';
import { RawClient } from '../support/nbd-bytes.ts';
import { pattern } from '../support/storage-contract.ts';

const SIZE = 1024 * 1024;
const MIB = 1024 * 1024;

async function serveMemory(writable = true) {
  const storage = new MemoryStorage(pattern(SIZE, 1));
  const disk = new Disk(new RawImage(storage));
  const { socket, server } = await serveExports([{ name: '', disk, writable }]);
  return { socket, server, storage };
}

/** A disk that answers when it is told to. */
class SlowDisk implements NbdDisk {
  readonly size = 1024 * MIB;
  readonly writable = true;
  readonly waiting: (() => void)[] = [];
  mostWaiting = 0;

  async #turn(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.waiting.push(resolve);
      this.mostWaiting = Math.max(this.mostWaiting, this.waiting.length);
    });
  }

  read(): Promise<void> {
    return this.#turn();
  }
  write(): Promise<void> {
    return this.#turn();
  }
  zero(): Promise<void> {
    return this.#turn();
  }
  discard(): Promise<void> {
    return this.#turn();
  }
  flush(): Promise<void> {
    return this.#turn();
  }
  async status(): Promise<never> {
    throw new ImageError('io', 'broken', { errno: 'EIO' });
  }
  async depths(): Promise<never> {
    throw new Error('a bug');
  }
  async dirty(): Promise<never> {
    throw new Error('a bug');
  }
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 2));
}

describe('simple replies', () => {
  const simple = (path: string) => RawClient.ready(path, { structured: false });

  test('bring what was read, and say that it was written', async () => {
    const { socket, storage } = await serveMemory();
    const client = await simple(socket);
    client.request(spec.NBD_CMD_READ, 100, 1000, { cookie: 7 });
    expect(await client.simple()).toEqual({ error: 0, cookie: 7 });
    expectBytes(await client.reader.read(1000), storage.bytes().subarray(100, 1100));
    client.request(spec.NBD_CMD_WRITE, 5, 3, { cookie: 8, payload: Uint8Array.of(9, 8, 7) });
    expect(await client.simple()).toEqual({ error: 0, cookie: 8 });
    expect([...storage.bytes().subarray(5, 8)]).toEqual([9, 8, 7]);
    for (const type of [spec.NBD_CMD_TRIM, spec.NBD_CMD_CACHE, spec.NBD_CMD_WRITE_ZEROES]) {
      client.request(type, 0, 4096);
      expect(await client.simple()).toEqual({ error: 0, cookie: 1 });
    }
    expect(
      storage
        .bytes()
        .subarray(0, 4096)
        .every((byte) => byte === 0),
    ).toBe(true);
  });

  test('of errors have no data, and what is only for structured ones is refused', async () => {
    const { socket } = await serveMemory();
    const client = await simple(socket);
    client.request(spec.NBD_CMD_READ, SIZE, 1);
    expect((await client.simple()).error).toBe(spec.NBD_ERRORS.EINVAL);
    client.request(spec.NBD_CMD_READ, 0, 1, { flags: spec.NBD_CMD_FLAG_DF });
    expect((await client.simple()).error).toBe(spec.NBD_ERRORS.EINVAL);
    client.request(spec.NBD_CMD_BLOCK_STATUS, 0, 1);
    expect((await client.simple()).error).toBe(spec.NBD_ERRORS.EINVAL);
  });
});

describe('structured replies', () => {
  test('tell holes apart, unless they must not', async () => {
    const image = await memoryImage({ size: SIZE, clusterSize: 65536 });
    await image.write(131072, pattern(65536, 5));
    const { socket } = await serveExports([{ name: '', disk: new Disk(image), writable: true }]);
    const client = await RawClient.ready(socket);
    client.request(spec.NBD_CMD_READ, 65536, 196608, { cookie: 3 });
    const chunks = [await client.chunk(), await client.chunk(), await client.chunk()];
    expect(chunks.map(({ type, flags, cookie }) => [type, flags, cookie])).toEqual([
      [spec.NBD_REPLY_TYPE_OFFSET_HOLE, 0, 3],
      [spec.NBD_REPLY_TYPE_OFFSET_DATA, 0, 3],
      [spec.NBD_REPLY_TYPE_OFFSET_HOLE, spec.NBD_REPLY_FLAG_DONE, 3],
    ]);
    expect(chunks.map(({ content }) => readU64(viewOf(content), 0))).toEqual([
      65536, 131072, 196608,
    ]);
    client.request(spec.NBD_CMD_READ, 65536, 196608, { flags: spec.NBD_CMD_FLAG_DF });
    const whole = await client.chunk();
    expect([whole.type, whole.flags, whole.content.length]).toEqual([1, 1, 196608 + 8]);
  });

  test('of nothing are empty', async () => {
    const { socket } = await serveMemory();
    const client = await RawClient.ready(socket);
    client.request(spec.NBD_CMD_READ, SIZE, 0);
    const { type, flags, content } = await client.chunk();
    expect([type, flags, content.length]).toEqual([0, 1, 0]);
    for (const type of [spec.NBD_CMD_WRITE, spec.NBD_CMD_TRIM, spec.NBD_CMD_WRITE_ZEROES]) {
      client.request(type, SIZE, 0);
      expect((await client.simple()).error).toBe(0);
    }
  });

  test('tell runs, all or one', async () => {
    const image = await memoryImage({ size: SIZE, clusterSize: 65536 });
    await image.write(131072, pattern(65536, 5));
    const { socket } = await serveExports([
      { name: '', disk: new Disk(image), writable: true, allocationDepth: true },
    ]);
    const queries = ['base:allocation', 'qemu:allocation-depth'];
    const client = await RawClient.ready(socket, { queries });
    client.request(spec.NBD_CMD_BLOCK_STATUS, 65536, 196608);
    const [allocation, depth] = [await client.chunk(), await client.chunk()];
    expect([...allocation.content]).toEqual([...u32s(0, 65536, 3, 65536, 0, 65536, 3)]);
    expect([allocation.type, allocation.flags, depth.flags]).toEqual([5, 0, 1]);
    expect([...depth.content]).toEqual([...u32s(1, 65536, 0, 65536, 1, 65536, 0)]);
    client.request(spec.NBD_CMD_BLOCK_STATUS, 65536, 196608, {
      flags: spec.NBD_CMD_FLAG_REQ_ONE,
    });
    expect([...(await client.chunk()).content]).toEqual([...u32s(0, 65536, 3)]);
    expect([...(await client.chunk()).content]).toEqual([...u32s(1, 65536, 0)]);
  });

  test('of failures have a number and words', async () => {
    const disk = new SlowDisk();
    const { socket } = await serveExports([{ name: '', disk, writable: true }]);
    const client = await RawClient.ready(socket);
    client.request(spec.NBD_CMD_BLOCK_STATUS, 0, 512);
    expect(await client.error()).toEqual({ error: 5, message: 'broken' });
  });

  test('failing by a mistake of ours is an I/O error for the client, and told', async () => {
    const disk: NbdDisk = Object.assign(new SlowDisk(), {
      read: () => Promise.reject(new TypeError('a bug')),
    });
    const told: unknown[] = [];
    const onMistake = (error: unknown) => told.push(error);
    const { socket } = await serveExports([{ name: '', disk, writable: true }], { onMistake });
    const client = await RawClient.ready(socket);
    client.request(spec.NBD_CMD_READ, 0, 512);
    expect(await client.error()).toEqual({ error: 5, message: 'a bug' });
    expect(told).toEqual([new TypeError('a bug')]);
  });
});

describe('a request that makes no sense is refused, and the next one heard', () => {
  const CASES: readonly (readonly [string, number, number, number, number, number])[] = [
    ['a read past the end', spec.NBD_CMD_READ, SIZE - 1, 2, 0, 22],
    ['a read behind the end', spec.NBD_CMD_READ, 2 ** 52, 2, 0, 22],
    ['a write past the end', spec.NBD_CMD_WRITE, SIZE - 1, 2, 0, 28],
    ['zeroes past the end', spec.NBD_CMD_WRITE_ZEROES, SIZE, 1, 0, 28],
    ['a trim past the end', spec.NBD_CMD_TRIM, 0, SIZE + 1, 0, 22],
    ['a cache past the end', spec.NBD_CMD_CACHE, 0, SIZE + 1, 0, 22],
    ['a status past the end', spec.NBD_CMD_BLOCK_STATUS, 0, SIZE + 1, 0, 22],
    ['a status of nothing', spec.NBD_CMD_BLOCK_STATUS, 0, 0, 0, 22],
    ['a read that is too long', spec.NBD_CMD_READ, 0, 32 * MIB + 1, 0, 22],
    ['an unknown command', 99, 0, 1, 0, 22],
    ['a write with DF', spec.NBD_CMD_WRITE, 0, 4, spec.NBD_CMD_FLAG_DF, 22],
    ['a read with NO_HOLE', spec.NBD_CMD_READ, 0, 4, spec.NBD_CMD_FLAG_NO_HOLE, 22],
    ['an unknown flag', spec.NBD_CMD_FLUSH, 0, 0, 1 << 9, 22],
  ];

  test.each(CASES)('%s', async (_what, type, offset, length, flags, error) => {
    const { socket, storage } = await serveMemory();
    const before = storage.bytes();
    const client = await RawClient.ready(socket);
    const payload = type === spec.NBD_CMD_WRITE ? new Uint8Array(length) : new Uint8Array();
    client.request(type, offset, length, { flags, payload, cookie: 5 });
    expect((await client.error()).error).toBe(error);
    client.request(spec.NBD_CMD_FLUSH, 2 ** 50, 3, { cookie: 6 });
    expect(await client.simple()).toEqual({ error: 0, cookie: 6 });
    expectBytes(storage.bytes(), before);
  });

  test('a write that is too long, whose data is passed over', async () => {
    const { socket, storage } = await serveMemory();
    const before = storage.bytes();
    const client = await RawClient.ready(socket);
    const length = 33 * MIB;
    client.request(spec.NBD_CMD_WRITE, 0, length, { payload: new Uint8Array(length) });
    expect((await client.error()).error).toBe(22);
    client.request(spec.NBD_CMD_FLUSH, 0, 0);
    expect((await client.simple()).error).toBe(0);
    expectBytes(storage.bytes(), before);
  });

  test('changes of an export that is read-only', async () => {
    const { socket } = await serveMemory(false);
    const client = await RawClient.ready(socket);
    for (const type of [spec.NBD_CMD_WRITE, spec.NBD_CMD_TRIM, spec.NBD_CMD_WRITE_ZEROES]) {
      const payload = new Uint8Array(type === spec.NBD_CMD_WRITE ? 512 : 0);
      client.request(type, 0, 512, { payload });
      expect(await client.error()).toEqual({ error: 1, message: 'Export is read-only' });
    }
  });
});

describe('the end of a connection', () => {
  test('comes with a bad magic, and not for others', async () => {
    const { socket } = await serveMemory();
    const [client, other] = [await RawClient.ready(socket), await RawClient.ready(socket)];
    client.send(u32s(0xdead_beef, 0, 0, 0, 0, 0, 0));
    await client.ended();
    other.request(spec.NBD_CMD_FLUSH, 0, 0);
    expect((await other.simple()).error).toBe(0);
  });

  test('by DISC comes after the replies', async () => {
    const disk = new SlowDisk();
    const { socket } = await serveExports([{ name: '', disk, writable: true }]);
    const client = await RawClient.ready(socket);
    client.request(spec.NBD_CMD_WRITE, 0, 4, { payload: new Uint8Array(4), cookie: 9 });
    client.request(spec.NBD_CMD_DISC, 0, 0);
    await until(() => disk.waiting.length === 1);
    disk.waiting.pop()?.();
    expect(await client.simple()).toEqual({ error: 0, cookie: 9 });
    await client.ended();
  });

  test('in the middle of a write leaves the disk as it was', async () => {
    const { socket, storage, server } = await serveMemory();
    const before = storage.bytes();
    for (const sent of [1, 27, 28, 1000]) {
      const client = await RawClient.ready(socket);
      const bytes = new Uint8Array(28 + 4096).fill(0xee);
      const view = viewOf(bytes);
      view.setUint32(0, spec.NBD_REQUEST_MAGIC);
      view.setUint32(4, spec.NBD_CMD_WRITE);
      view.setBigUint64(16, 0n);
      view.setUint32(24, 4096);
      client.send(bytes.subarray(0, sent));
      client.socket.end();
      await client.ended();
    }
    await until(() => server.connections === 0);
    expectBytes(storage.bytes(), before);
  });

  test('by a client that vanishes does not stop what it asked for', async () => {
    const disk = new SlowDisk();
    const { socket, server } = await serveExports([{ name: '', disk, writable: true }]);
    const client = await RawClient.ready(socket);
    client.request(spec.NBD_CMD_WRITE, 0, 4, { payload: new Uint8Array(4) });
    await until(() => disk.waiting.length === 1);
    client.socket.destroy();
    expect(server.connections).toBe(1);
    disk.waiting.pop()?.();
    await until(() => server.connections === 0);
  });

  test('by the server comes after the replies', async () => {
    const disk = new SlowDisk();
    const served = { name: '', disk, writable: true };
    const { socket, server } = await serveExports([served]);
    const client = await RawClient.ready(socket);
    client.request(spec.NBD_CMD_FLUSH, 0, 0, { cookie: 4 });
    await until(() => disk.waiting.length === 1);
    expect(server.clientsOf(served)).toBe(1);
    const gone = server.disconnect(served);
    disk.waiting.pop()?.();
    expect(await client.simple()).toEqual({ error: 0, cookie: 4 });
    await client.ended();
    await gone;
    expect(server.clientsOf(served)).toBe(0);
  });
});

describe('in flight', () => {
  test('replies come in the order in which they are ready', async () => {
    const disk = new SlowDisk();
    const { socket } = await serveExports([{ name: '', disk, writable: true }]);
    const client = await RawClient.ready(socket);
    for (const cookie of [1, 2, 3]) client.request(spec.NBD_CMD_FLUSH, 0, 0, { cookie });
    await until(() => disk.waiting.length === 3);
    for (const cookie of [3, 2, 1]) {
      disk.waiting.pop()?.();
      expect((await client.simple()).cookie).toBe(cookie);
    }
  });

  test('there are so many requests and bytes, and no more', async () => {
    const disk = new SlowDisk();
    const { socket } = await serveExports([{ name: '', disk, writable: true }]);
    const client = await RawClient.ready(socket);
    for (let cookie = 1; cookie <= 300; cookie++) {
      client.request(spec.NBD_CMD_FLUSH, 0, 0, { cookie });
    }
    for (let done = 0; done < 300; done++) {
      await until(() => disk.waiting.length > 0);
      disk.waiting.shift()?.();
      await client.simple();
    }
    expect(disk.mostWaiting).toBe(128);
    disk.mostWaiting = 0;
    for (let cookie = 1; cookie <= 8; cookie++) {
      client.request(spec.NBD_CMD_WRITE, 0, 8 * MIB, { cookie, payload: new Uint8Array(8 * MIB) });
    }
    for (let done = 0; done < 8; done++) {
      await until(() => disk.waiting.length > 0);
      disk.waiting.shift()?.();
      await client.simple();
    }
    expect(disk.mostWaiting).toBeLessThanOrEqual(4);
  });

  test('a client that does not read its replies waits, and others do not', async () => {
    const { socket } = await serveMemory();
    const lazy = await RawClient.ready(socket, { structured: false });
    lazy.socket.pause();
    for (let i = 0; i < 2000; i++) lazy.request(spec.NBD_CMD_READ, 0, SIZE);
    const other = await RawClient.ready(socket);
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 50; i++) {
      other.request(spec.NBD_CMD_READ, 0, SIZE, { flags: spec.NBD_CMD_FLAG_DF });
      expect((await other.chunk()).content.length).toBe(SIZE + 8);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * MIB);
  });
});
