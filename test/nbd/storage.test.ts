// Exports as storages: what every storage promises, over servers of ours and of others, whatever they
// can and can't.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Disk } from '../../src/daemon/disk.ts';
import type { NbdTarget } from '../../src/io/host.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { Storage } from '../../src/io/storage.ts';
import { nodeHost } from '../../src/nbd/node-host.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { expectBytes } from '../support/memory-images.ts';
import { serveExports } from '../support/nbd.ts';
import { nbdkit } from '../support/qemu-nbd.ts';
import { pattern, storageContract } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

const SIZE = 1536 * 1024;
const MIB = 1024 * 1024;

function targetOf(socket: string, more: Partial<NbdTarget> = {}): NbdTarget {
  const server = { type: 'unix', path: socket } as const;
  return { filename: 'nbd', server, export: '', reconnectDelay: 0, openTimeout: 0, ...more };
}

async function openSocket(socket: string, writable = true): Promise<Storage> {
  const storage = await nodeHost.openNbd?.(targetOf(socket), { writable });
  if (storage === undefined) throw new Error('this machine knows no NBD');
  return storage;
}

function padded(content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  bytes.set(content);
  return bytes;
}

storageContract('an export of our server', async (content) => {
  const disk = new Disk(new RawImage(new MemoryStorage(padded(content))), { unmap: true });
  const { socket } = await serveExports([{ name: '', disk, writable: true }]);
  return { open: ({ writable }) => openSocket(socket, writable) };
});

/** nbdkit over a file. */
const kit =
  (...options: readonly string[]) =>
  async (content: Uint8Array) => {
    const file = join(tempDir(), 'disk.raw');
    writeFileSync(file, padded(content));
    const filters = options.filter((each) => each.startsWith('-'));
    const settings = options.filter((each) => !each.startsWith('-'));
    const { socket } = await nbdkit([...filters, 'file', `file=${file}`, ...settings]);
    return { open: ({ writable }: { writable: boolean }) => openSocket(socket, writable) };
  };

storageContract('an export of nbdkit', kit());
storageContract(
  'an export with blocks of 4 KiB, at most 64 KiB at once, and simple replies alone',
  kit(
    '--no-sr',
    '--filter=blocksize-policy',
    'blocksize-error-policy=error',
    'blocksize-minimum=4096',
    'blocksize-preferred=4096',
    'blocksize-maximum=65536',
  ),
);

describe('servers that can do less', () => {
  const OPTIONS: readonly (readonly [string, readonly string[]])[] = [
    ['no zeroes', ['--filter=nozero']],
    ['no replies to options', ['--mask-handshake=0']],
    ['no flags but zeroes', ['--mask-handshake=2']],
    ['no fast zeroes', ['--filter=nozero', 'zeromode=notrim']],
  ];

  test.each(OPTIONS)('%s', async (_what, options) => {
    const { open } = await kit(...options)(pattern(SIZE, 3));
    const storage = await open({ writable: true });
    onTestFinished(() => storage.close());
    expect(storage.size).toBe(SIZE);
    await storage.zero(1000, MIB, 'data');
    await storage.write(5000, pattern(3000, 4), 'data');
    await storage.discard(MIB, 65536);
    await storage.flush();
    const expected = pattern(SIZE, 3).fill(0, 1000, 1000 + MIB);
    expected.set(pattern(3000, 4), 5000);
    const bytes = new Uint8Array(MIB);
    await storage.read(0, bytes);
    expectBytes(bytes, expected.slice(0, MIB));
  });

  test('an export that is read-only is not opened for writing', async () => {
    const { open } = await kit('-r')(pattern(SIZE, 3));
    await expect(open({ writable: true })).rejects.toMatchObject({ code: 'read-only' });
    const storage = await open({ writable: false });
    onTestFinished(() => storage.close());
    await expect(storage.makeWritable([], [])).rejects.toMatchObject({
      message: "Can't reopen read-only NBD mount as read/write",
    });
  });

  test('errors come with the number that the server gives', async () => {
    const { open } = await kit(
      '--filter=error',
      'error-pwrite=ENOSPC',
      'error-pwrite-rate=100%',
    )(pattern(SIZE, 3));
    const storage = await open({ writable: true });
    onTestFinished(() => storage.close());
    await expect(storage.write(0, new Uint8Array(4096), 'data')).rejects.toMatchObject({
      code: 'no-space',
      errno: 'ENOSPC',
      message: "Could not write to 'nbd' at offset 0: No space left on device",
    });
  });

  test('holes are told by who knows them', async () => {
    const socket = (await nbdkit(['sparse-random', '1G', 'percent=10', 'runlength=1048576']))
      .socket;
    const storage = await openSocket(socket, false);
    onTestFinished(() => storage.close());
    let data = 0;
    for (let at = 0; at < storage.size; ) {
      const extent = await storage.extentAt(at);
      if (extent.data) data += extent.end - at;
      at = extent.end;
    }
    expect(data / storage.size).toBeGreaterThan(0.02);
    expect(data / storage.size).toBeLessThan(0.4);
  });
});
