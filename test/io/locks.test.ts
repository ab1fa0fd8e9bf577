// The byte locks against QEMU's own, in both directions, and without the system calls.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { appendFileSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { FileStorage } from '../../src/io/file.ts';
import { byteLocks } from '../../src/io/locks.ts';
import { permissionsFor } from '../../src/io/permissions.ts';
import { loadSyscalls, type Syscalls } from '../../src/io/syscalls.ts';
import { lockedBytes as heldBytes } from '../support/held-bytes.ts';
import { qemuImg, run } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const WRITER = permissionsFor('image', 'write');
const READER = permissionsFor('image', 'read');

let dir: string;
let image: string;
beforeEach(async () => {
  dir = tempDir();
  image = join(dir, 'disk.qcow2');
  await qemuImg('create', '-q', '-f', 'qcow2', image, '1M');
});

async function opened(
  writable: boolean,
  syscalls: Syscalls | null | undefined = undefined,
  warn: (message: string) => void = () => {},
): Promise<FileStorage> {
  const storage = await FileStorage.open(image, { writable, syscalls, warn });
  onTestFinished(() => storage.close());
  return storage;
}

/** A qemu-io that has the image open until the test ends. */
async function heldByQemu(...options: readonly string[]): Promise<number | undefined> {
  const child: ChildProcessWithoutNullStreams = spawn('qemu-io', [
    '-f',
    'qcow2',
    ...options,
    image,
  ]);
  const ended = new Promise((resolve) => child.on('close', resolve));
  onTestFinished(async () => {
    child.stdin.end();
    await ended;
  });
  // Its prompt says that the image is open.
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.stdout.on('data', (text: Buffer) => text.includes('qemu-io>') && resolve());
    child.stderr.on('data', (text: Buffer) => reject(new Error(text.toString())));
  });
  return child.pid;
}

const lockedBytes = () => heldBytes(image);

const hint = () => `Is another process using the image [${image}]?`;
const machines = [
  ['with system calls', undefined],
  ['without system calls', null],
] as const;

test('a writer holds what QEMU holds for writing', () => {
  expect(byteLocks(WRITER.use, WRITER.share).hold).toEqual([100, 101, 103, 201, 203]);
  expect(byteLocks(READER.use, READER.share).hold).toEqual([100, 201, 203]);
});

test('the kernel shows our locks as it shows those of QEMU', async () => {
  const storage = await opened(true);
  await storage.lock(WRITER.use, WRITER.share);
  const ours = lockedBytes();
  await storage.close();
  expect(lockedBytes()).toEqual([]);
  await heldByQemu();
  expect(ours).toEqual(lockedBytes());
});

test.for(machines)('a QEMU that writes keeps us out, %s', async ([, syscalls]) => {
  await heldByQemu();
  const before = lockedBytes();
  await expect((await opened(true, syscalls)).lock(WRITER.use, WRITER.share)).rejects.toMatchObject(
    { code: 'busy', message: 'Failed to get "write" lock', hint: hint() },
  );
  await expect(
    (await opened(false, syscalls)).lock(READER.use, READER.share),
  ).rejects.toMatchObject({ message: 'Failed to get shared "write" lock', hint: hint() });
  expect(lockedBytes()).toEqual(before);
});

test.for(machines)('beside a QEMU that reads we may read, not write, %s', async ([, syscalls]) => {
  await heldByQemu('-r');
  await (await opened(false, syscalls)).lock(READER.use, READER.share);
  await expect((await opened(true, syscalls)).lock(WRITER.use, WRITER.share)).rejects.toMatchObject(
    { message: 'Failed to get "write" lock', hint: hint() },
  );
});

test('while we write QEMU can neither read nor write, and says what we say', async () => {
  const storage = await opened(true);
  await storage.lock(WRITER.use, WRITER.share);
  const info = await run('qemu-img', ['info', image]);
  expect(info.code).toBe(1);
  expect(info.stderr).toContain(`Failed to get shared "write" lock\n${hint()}`);
  const write = await run('qemu-io', ['-f', 'qcow2', '-c', 'write 0 512', image]);
  expect(write.stderr).toContain(`Failed to get "write" lock\n${hint()}`);
  expect((await run('qemu-img', ['info', '-U', image])).code).toBe(0);
  await storage.close();
  expect((await run('qemu-img', ['info', image])).code).toBe(0);
});

test('while we read QEMU can read and not write', async () => {
  await (await opened(false)).lock(READER.use, READER.share);
  expect((await run('qemu-img', ['info', image])).code).toBe(0);
  const write = await run('qemu-io', ['-f', 'qcow2', '-c', 'write 0 512', image]);
  expect(write.stderr).toContain(`Failed to get "write" lock\n${hint()}`);
});

test.for(machines)('who holds it is told by name and number, %s', async ([, syscalls]) => {
  const pid = await heldByQemu();
  const refused = (await opened(true, syscalls)).lock(WRITER.use, WRITER.share);
  await expect(refused).rejects.toMatchObject({ holders: [{ pid, name: 'qemu-io' }] });
});

test('one of ours in the same process is told, too', async () => {
  await (await opened(true)).lock(WRITER.use, WRITER.share);
  const refused = (await opened(false)).lock(READER.use, READER.share);
  await expect(refused).rejects.toMatchObject({ holders: [{ pid: process.pid }] });
});

test('a file that grew before it was locked has its new length', async () => {
  const storage = await opened(false);
  appendFileSync(image, Buffer.alloc(1000));
  const { size } = statSync(image);
  expect(storage.size).toBe(size - 1000);
  await storage.lock(READER.use, READER.share);
  expect(storage.size).toBe(size);
});

test('two of ours in one process keep each other out', async () => {
  await (await opened(true)).lock(WRITER.use, WRITER.share);
  const second = await opened(true);
  await expect(second.lock(WRITER.use, WRITER.share)).rejects.toMatchObject({ code: 'busy' });
});

test('fewer permissions drop the locks no longer wanted', async () => {
  const storage = await opened(true);
  await storage.lock(WRITER.use, WRITER.share);
  await storage.lock(READER.use, READER.share);
  expect(lockedBytes()).toEqual([100, 201, 203]);
  await storage.lock([], ['consistent read', 'write', 'write unchanged', 'resize']);
  expect(lockedBytes()).toEqual([]);
});

test('a refused change leaves the locks as they were', async () => {
  await heldByQemu('-r');
  const storage = await opened(true);
  await storage.lock(READER.use, READER.share);
  const before = lockedBytes();
  await expect(storage.lock(WRITER.use, WRITER.share)).rejects.toMatchObject({ code: 'busy' });
  expect(lockedBytes()).toEqual(before);
});

test('a reader becomes a writer with the locks of a writer', async () => {
  const storage = await opened(false);
  await storage.lock(READER.use, READER.share);
  await storage.makeWritable(WRITER.use, WRITER.share);
  expect(lockedBytes()).toEqual([100, 101, 103, 201, 203]);
  await storage.close();
  expect(lockedBytes()).toEqual([]);
});

test.for(machines)('a reader stays one while a QEMU reads, %s', async ([, syscalls]) => {
  await heldByQemu('-r');
  const storage = await opened(false, syscalls);
  await storage.lock(READER.use, READER.share);
  const before = lockedBytes();
  await expect(storage.makeWritable(WRITER.use, WRITER.share)).rejects.toMatchObject({
    code: 'busy',
    message: 'Failed to get "write" lock',
    hint: hint(),
  });
  expect(storage.writable).toBe(false);
  expect(lockedBytes()).toEqual(before);
  await storage.read(0, new Uint8Array(512));
});

test('becoming a writer never lets go of the locks of a reader', async () => {
  const calls = await loadSyscalls();
  if (calls === null) throw new Error('no system calls here');
  const dropped: number[] = [];
  const watched: Syscalls = {
    ...calls,
    unlock: (fd, byte) => {
      dropped.push(byte);
      calls.unlock(fd, byte);
    },
  };
  const storage = await opened(false, watched);
  await storage.lock(READER.use, READER.share);
  await storage.makeWritable(WRITER.use, WRITER.share);
  expect(dropped).toEqual([]);
});

test('a file that QEMU has open is not emptied by creating it anew', async () => {
  await heldByQemu('-r');
  const before = readFileSync(image);
  const theirs = await run('qemu-img', ['create', '-q', '-f', 'raw', image, '1M']);
  await expect(FileStorage.create(image)).rejects.toMatchObject({
    code: 'busy',
    message: 'Failed to get "write" lock',
    hint: hint(),
  });
  expect(theirs.stderr).toBe(`qemu-img: ${image}: Failed to get "write" lock\n${hint()}\n`);
  expect(readFileSync(image)).toEqual(before);
});

test('without system calls the user hears once that nobody is kept out', async () => {
  const heard: string[] = [];
  const warn = (message: string) => void heard.push(message);
  for (let i = 0; i < 2; i++) {
    const storage = await opened(true, null, warn);
    await storage.lock(WRITER.use, WRITER.share);
  }
  expect(heard).toEqual([expect.stringMatching(/can not be kept from using the same images/)]);
});

test('without system calls who keeps nobody out hears nothing', async () => {
  const heard: string[] = [];
  const storage = await opened(false, null, (message) => void heard.push(message));
  const { use, share } = permissionsFor('image', 'read', true);
  await storage.lock(use, share);
  expect(heard).toEqual([]);
});

test('with system calls there is nothing to hear', async () => {
  const heard: string[] = [];
  const storage = await opened(true, undefined, (message) => void heard.push(message));
  await storage.lock(WRITER.use, WRITER.share);
  expect(heard).toEqual([]);
});

test('a lock that the file system refuses is an error, not a free pass', async () => {
  const calls = await loadSyscalls();
  if (calls === null) throw new Error('no system calls here');
  const held: number[] = [];
  const failing: Syscalls = {
    ...calls,
    lockShared: (_fd, byte) => {
      if (byte === 201) throw Object.assign(new Error('no locks'), { code: 'EIO' });
      held.push(byte);
      return true;
    },
    unlock: (_fd, byte) => void held.splice(held.indexOf(byte), 1),
  };
  const storage = await opened(true, failing);
  await expect(storage.lock(WRITER.use, WRITER.share)).rejects.toMatchObject({
    code: 'io',
    message: `Could not lock '${image}': Input/output error`,
  });
  expect(held).toEqual([]);
});
