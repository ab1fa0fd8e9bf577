// The contract of Storage, for all that we have: memory, files and block devices, the latter two
// with the system calls that Node.js lacks and without them.

import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { FileStorage } from '../../src/io/file.ts';
import type { CacheMode } from '../../src/io/host.ts';
import { MemoryFile, MemoryStorage } from '../../src/io/memory.ts';
import { loadSyscalls, type Syscalls } from '../../src/io/syscalls.ts';
import { type Place, storageContract } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

const DEVICE_BYTES = 4 * 1024 * 1024;

storageContract('memory', async (content) => {
  const file = new MemoryFile(content);
  return { open: async ({ writable }) => new MemoryStorage(file, { writable }) };
});

const onFile =
  (syscalls: Syscalls | null, cache?: CacheMode, waits?: number) =>
  async (content: Uint8Array): Promise<Place> => {
    const filename = join(tempDir(), 'file');
    writeFileSync(filename, content);
    return open(filename, syscalls, cache, waits);
  };

function open(
  filename: string,
  syscalls: Syscalls | null,
  cache: CacheMode = 'writeback',
  waits = 0,
): Place {
  const machine = { syscalls, cache, waits, warn: () => {} };
  return { open: ({ writable }) => FileStorage.open(filename, { writable, ...machine }) };
}

const onDevice =
  (syscalls: Syscalls | null, cache?: CacheMode) =>
  async (content: Uint8Array): Promise<Place> => {
    const backing = join(tempDir(), 'backing');
    writeFileSync(backing, content);
    truncateSync(backing, DEVICE_BYTES);
    const device = attach(backing);
    onTestFinished(() => void execFileSync('losetup', ['-d', device]));
    return open(device, syscalls, cache);
  };

function attach(backing: string): string {
  return execFileSync('losetup', ['-f', '--show', backing], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim();
}

/** Why there are no loop devices here; undefined where there are. */
function whyNoDevices(): string | undefined {
  try {
    execFileSync('losetup', ['-f'], { stdio: 'pipe' });
    if (process.getuid?.() !== 0) return 'block devices need root';
    return undefined;
  } catch (error) {
    return `losetup -f: ${error instanceof Error ? error.message.trim() : error}`;
  }
}

const syscalls = await loadSyscalls();

test('the system calls can be reached here', () => {
  expect(syscalls).not.toBeNull();
});

storageContract('a file, with system calls', onFile(syscalls));
storageContract('a file, without system calls', onFile(null));
storageContract('a file, each write durable', onFile(syscalls, 'writethrough'));
storageContract('a file, flushes ignored', onFile(syscalls, 'unsafe'));
storageContract('a file, around the page cache', onFile(syscalls, 'none'));
storageContract(
  'a file, around the page cache, each write durable',
  onFile(syscalls, 'directsync'),
);
storageContract('a file that is waited for', onFile(syscalls, undefined, 2 ** 16));

const noDevices = whyNoDevices();
if (noDevices === undefined) {
  storageContract('a block device, with system calls', onDevice(syscalls));
  storageContract('a block device, around the page cache', onDevice(syscalls, 'none'));
  storageContract('a block device, without system calls', onDevice(null));
} else {
  test.skip(`block devices: ${noDevices}`, () => {});
}
