// What files have beyond the contract: words of failures, holes, kernel copies, lifetimes, modes.

import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { FileStorage } from '../../src/io/file.ts';
import type { Storage } from '../../src/io/storage.ts';
import { loadSyscalls, type Syscalls } from '../../src/io/syscalls.ts';
import { openError } from '../../src/io/system-error.ts';
import { writeAll } from '../../src/io/transfer.ts';
import { MIB } from '../../src/units.ts';
import { run } from '../support/qemu.ts';
import { pattern } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

let dir: string;
beforeEach(() => {
  dir = tempDir();
});

const calls = await loadSyscalls();
if (calls === null) throw new Error('these tests need the system calls: is koffi installed?');

async function opened(
  name: string,
  options: Partial<Parameters<typeof FileStorage.open>[1]> = {},
): Promise<FileStorage> {
  const storage = await FileStorage.open(join(dir, name), { writable: true, ...options });
  onTestFinished(() => storage.close());
  return storage;
}

function put(name: string, content: Uint8Array): string {
  fs.writeFileSync(join(dir, name), content);
  return join(dir, name);
}

/** System calls of which some fail with an errno, the first `times` times. */
function failing(call: keyof Syscalls, code: string, times = Number.POSITIVE_INFINITY): Syscalls {
  let left = times;
  const real = calls![call] as (...args: never[]) => unknown;
  const fails = (...args: never[]): unknown => {
    if (left-- > 0) throw Object.assign(new Error(`${call} fails`), { code });
    return real(...args);
  };
  return { ...calls!, [call]: fails };
}

describe('opening', () => {
  /** The last line of what qemu-img says, without its name and outer words. */
  async function wordsOfQemu(...args: string[]): Promise<string> {
    const { stderr } = await run('qemu-img', args);
    return stderr.trim().replace(/^qemu-img: /, '');
  }

  test('a directory, a missing file, a socket: the words of QEMU', async () => {
    const socket = join(dir, 'socket');
    const server = createServer().listen(socket);
    await new Promise((resolve) => server.on('listening', resolve));
    onTestFinished(() => void server.close());
    for (const name of [dir, join(dir, 'missing'), join(dir, 'no', 'where'), socket]) {
      const theirs = await wordsOfQemu('info', name);
      const ours = await FileStorage.open(name, { writable: false }).catch((e: unknown) => e);
      expect(theirs).toBe(`Could not open '${name}': ${(ours as Error).message}`);
    }
    const theirs = await wordsOfQemu('resize', '-f', 'raw', dir, '1M');
    const ours = await FileStorage.open(dir, { writable: true }).catch((e: unknown) => e);
    expect(theirs).toBe(`Could not open '${dir}': ${(ours as Error).message}`);
  });

  test('what is missing is not found', async () => {
    await expect(opened('missing')).rejects.toMatchObject({ code: 'not-found', errno: 'ENOENT' });
  });

  test('a FIFO is refused and does not hang', async () => {
    execFileSync('mkfifo', [join(dir, 'fifo')]);
    for (const writable of [false, true]) {
      await expect(opened('fifo', { writable })).rejects.toMatchObject({ code: 'invalid' });
    }
    await expect(FileStorage.create(join(dir, 'fifo'))).rejects.toMatchObject({ code: 'invalid' });
  });

  test('a character device has no bytes, as QEMU sees it', async () => {
    const info = await run('qemu-img', ['info', '--output=json', '-f', 'raw', '/dev/null']);
    expect(JSON.parse(info.stdout)).toMatchObject({ 'virtual-size': 0 });
    const storage = await FileStorage.open('/dev/null', { writable: true });
    onTestFinished(() => storage.close());
    expect(storage).toMatchObject({ size: 0, resizable: false });
    await storage.flush();
    await expect(storage.write(0, new Uint8Array(1), 'data')).rejects.toMatchObject({
      code: 'no-space',
    });
  });

  test.for([
    ['EACCES', true, 'read-only', 'Permission denied'],
    ['EROFS', true, 'read-only', 'Read-only file system'],
    ['EACCES', false, 'io', 'Permission denied'],
    ['EMFILE', false, 'io', 'Too many open files'],
  ] as const)('%s, for writing: %s', ([errno, writable, code, words]) => {
    // Root is refused nothing, so these come from the table alone.
    const access = writable ? 'open-for-writing' : 'open-for-reading';
    const cause = Object.assign(new Error(errno), { code: errno });
    const message = `Could not open 'file': ${words}`;
    const error = openError('Could not open', 'file', cause, access);
    expect(error).toMatchObject({ code, errno, message });
  });
});

describe('creating', () => {
  test('makes an empty file, or empties one', async () => {
    const filename = put('old', pattern(1000, 1));
    for (const name of [filename, join(dir, 'new')]) {
      const storage = await FileStorage.create(name);
      expect(storage).toMatchObject({ size: 0, writable: true });
      await storage.close();
      expect(fs.readFileSync(name).length).toBe(0);
      expect(fs.statSync(name).mode & 0o777 & ~0o644).toBe(0);
    }
  });

  test('fails with the words of QEMU', async () => {
    for (const name of [dir, join(dir, 'no', 'where')]) {
      const theirs = await run('qemu-img', ['create', '-q', '-f', 'raw', name, '1M']);
      const ours = await FileStorage.create(name).catch((error: unknown) => error);
      expect(theirs.stderr).toBe(`qemu-img: ${name}: ${(ours as Error).message}\n`);
    }
  });
});

describe('space', () => {
  test('zeroed ranges become holes, and extents show them', async () => {
    put('file', pattern(4 * MIB, 1));
    const storage = await opened('file');
    const before = await storage.allocatedBytes();
    await storage.zero(MIB, MIB, 'data');
    await storage.discard(3 * MIB, MIB);
    expect(before - (await storage.allocatedBytes())).toBe(2 * MIB);
    expect(storage.size).toBe(4 * MIB);
    expect(await storage.extentAt(0)).toEqual({ data: true, end: MIB });
    expect(await storage.extentAt(MIB + 5)).toEqual({ data: false, end: 2 * MIB });
    expect(await storage.extentAt(3 * MIB)).toEqual({ data: false, end: 4 * MIB });
  });

  test('zeroing past the end makes a hole, and takes no space', async () => {
    put('file', pattern(1000, 1));
    const storage = await opened('file');
    const before = await storage.allocatedBytes();
    await storage.zero(500, 1024 * MIB, 'data');
    expect(storage.size).toBe(1024 * MIB + 500);
    expect(fs.statSync(join(dir, 'file')).size).toBe(storage.size);
    expect(await storage.allocatedBytes()).toBeLessThanOrEqual(before);
  });

  test('where the file system can punch no holes zeros are written', async () => {
    put('file', pattern(3 * MIB, 1));
    const storage = await opened('file', { syscalls: failing('fallocate', 'EOPNOTSUPP') });
    await storage.zero(1000, 2 * MIB, 'data');
    await storage.discard(0, 1000);
    const content = fs.readFileSync(join(dir, 'file'));
    expect(Buffer.compare(content.subarray(1000, 1000 + 2 * MIB), Buffer.alloc(2 * MIB))).toBe(0);
    expect(Buffer.compare(content.subarray(0, 1000), pattern(1000, 1))).toBe(0);
  });

  test.each([
    ['EOPNOTSUPP', false],
    ['ENOSPC', false],
    [null, true],
  ] as const)('whether what is discarded is free then: %s, %s', async (code, expected) => {
    const file = put('file', pattern(5000, 1));
    const syscalls = code === null ? calls : failing('fallocate', code);
    const storage = await opened('file', { syscalls });
    expect(await storage.discardFreesSpace()).toBe(expected);
    expect(fs.statSync(file).size).toBe(5000);
    expect(fs.readFileSync(file).equals(pattern(5000, 1))).toBe(true);
    expect(await (await opened('file', { syscalls: null })).discardFreesSpace()).toBe(false);
    const reading = await opened('file', { syscalls, writable: false });
    expect(await reading.discardFreesSpace(), 'nobody can try').toBe(true);
  });

  test('a failing disk is not taken for a missing call', async () => {
    put('file', pattern(1000, 1));
    const storage = await opened('file', { syscalls: failing('fallocate', 'EIO') });
    await expect(storage.zero(0, 10, 'data')).rejects.toMatchObject({ code: 'io', errno: 'EIO' });
    await storage.discard(0, 10);
  });

  test('where the file system knows no holes all of it is data', async () => {
    put('file', pattern(1000, 1));
    const storage = await opened('file', { syscalls: failing('seekData', 'EINVAL') });
    expect(await storage.extentAt(10)).toEqual({ data: true, end: 1000 });
  });

  test('a full file system is no-space', async () => {
    // Each write to this device fails so.
    const fd = fs.openSync('/dev/full', fs.constants.O_RDWR);
    onTestFinished(() => fs.closeSync(fd));
    const write = writeAll(fd, 'full', 512, new Uint8Array(10), () => {});
    await expect(write).rejects.toMatchObject({
      code: 'no-space',
      errno: 'ENOSPC',
      message: "Could not write to 'full' at offset 512: No space left on device",
    });
  });
});

describe('a write that fails half-way', () => {
  test('has made the file longer, and what grows later reads as zeros', async () => {
    const limit = 64 * 1024;
    const program = `
      import { FileStorage } from ${JSON.stringify(new URL('../../src/io/file.ts', import.meta.url).href)};
      process.on('SIGXFSZ', () => {});
      const storage = await FileStorage.open(process.argv[1], { writable: true });
      const error = await storage.write(0, new Uint8Array(${2 * limit}).fill(1), 'data')
        .catch((error) => error);
      console.log(JSON.stringify({ code: error.code, errno: error.errno, size: storage.size }));
    `;
    const file = put('file', new Uint8Array());
    const node = [process.execPath, '--import', 'tsx', '--input-type=module', '-e', program, file];
    const { stdout, stderr } = await run('prlimit', [`--fsize=${limit}`, ...node]);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({ code: 'no-space', errno: 'EFBIG', size: limit });
  });
});

describe('copying in the kernel', () => {
  const source = async (syscalls?: Syscalls): Promise<Storage> => {
    put('source', pattern(3 * MIB, 2));
    return opened('source', { writable: false, ...(syscalls && { syscalls }) });
  };

  test('copies all of a range, and grows', async () => {
    const from = await source();
    put('target', pattern(100, 3));
    const target = await opened('target');
    expect(await target.copyFrom(from, 1000, 50, 2 * MIB)).toBe(2 * MIB);
    expect(target.size).toBe(2 * MIB + 50);
    const content = fs.readFileSync(join(dir, 'target'));
    expect(Buffer.compare(content.subarray(0, 50), pattern(100, 3).subarray(0, 50))).toBe(0);
    const wanted = pattern(3 * MIB, 2).subarray(1000, 1000 + 2 * MIB);
    expect(Buffer.compare(content.subarray(50), wanted)).toBe(0);
  });

  test('stops at the end of the source', async () => {
    const from = await source();
    put('target', new Uint8Array());
    const target = await opened('target');
    expect(await target.copyFrom(from, 3 * MIB - 10, 0, 100)).toBe(10);
    expect(await target.copyFrom(from, 4 * MIB, 0, 100)).toBe(0);
    expect(target.size).toBe(10);
  });

  test('copies holes as zeros', async () => {
    put('target', pattern(MIB, 3));
    put('sparse', new Uint8Array());
    fs.truncateSync(join(dir, 'sparse'), MIB);
    const target = await opened('target');
    const done = await target.copyFrom(await opened('sparse'), 0, 0, MIB);
    const content = fs.readFileSync(join(dir, 'target'));
    expect(Buffer.compare(content.subarray(0, done), Buffer.alloc(done))).toBe(0);
    expect(done).toBe(MIB);
  });

  test.for(['EXDEV', 'EINVAL', 'ENOSYS', 'EOPNOTSUPP', 'ETXTBSY', 'EPERM'])(
    '%s: copies nothing, and that is no error',
    async (code) => {
      const from = await source();
      put('target', new Uint8Array());
      const target = await opened('target', { syscalls: failing('copyFileRange', code) });
      expect(await target.copyFrom(from, 0, 0, MIB)).toBe(0);
    },
  );

  test('goes on after a signal', async () => {
    const from = await source();
    put('target', new Uint8Array());
    const target = await opened('target', { syscalls: failing('copyFileRange', 'EINTR', 3) });
    expect(await target.copyFrom(from, 0, 0, MIB)).toBe(MIB);
  });

  test.for([
    ['EIO', 'io'],
    ['ENOSPC', 'no-space'],
  ] as const)('%s is an error', async ([errno, code]) => {
    const from = await source();
    put('target', new Uint8Array());
    const target = await opened('target', { syscalls: failing('copyFileRange', errno) });
    await expect(target.copyFrom(from, 0, 0, MIB)).rejects.toMatchObject({ code, errno });
  });

  test('many at once, more than the library queues', async () => {
    const from = await source();
    put('target', new Uint8Array());
    const target = await opened('target');
    const piece = 4096;
    const done = await Promise.all(
      Array.from({ length: 600 }, (_, i) => target.copyFrom(from, i * piece, i * piece, piece)),
    );
    const content = fs.readFileSync(join(dir, 'target'));
    for (const [i, count] of done.entries()) {
      const wanted = pattern(3 * MIB, 2).subarray(i * piece, i * piece + count);
      const got = content.subarray(i * piece, i * piece + count);
      expect(Buffer.compare(got, wanted)).toBe(0);
    }
  });
});

describe('lifetime', () => {
  test('closing waits for what is under way, and what comes later is refused', async () => {
    put('file', pattern(8 * MIB, 1));
    const storage = await opened('file');
    const target = new Uint8Array(8 * MIB);
    const reading = storage.read(0, target);
    const closing = storage.close();
    await expect(storage.read(0, target)).rejects.toMatchObject({ code: 'io', errno: 'EBADF' });
    await closing;
    await reading;
    expect(Buffer.compare(target, pattern(8 * MIB, 1))).toBe(0);
  });

  test('a file that took its name is not written instead', async () => {
    const name = put('file', pattern(10, 1));
    const storage = await opened('file', { writable: false });
    fs.renameSync(name, `${name}.old`);
    put('file', pattern(10, 2));
    await expect(storage.makeWritable([], [])).rejects.toMatchObject({ code: 'io' });
    expect(storage.writable).toBe(false);
  });
});

describe('cache modes', () => {
  test.for([
    ['writethrough', true],
    ['directsync', true],
    ['writeback', false],
    ['none', false],
    ['unsafe', false],
  ] as const)('%s: O_DSYNC %s', async ([cache, expected]) => {
    put('file', new Uint8Array(10));
    const open = fs.readdirSync('/proc/self/fd').length;
    const storage = await opened('file', { cache });
    expect(fs.readdirSync('/proc/self/fd').length).toBe(open + 1);
    const fd = fs
      .readdirSync('/proc/self/fd')
      .find((each) => fs.existsSync(`/proc/self/fd/${each}`) && isFile(each));
    const info = fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
    const flags = Number.parseInt(/flags:\s*(\d+)/.exec(info)?.[1] ?? '', 8);
    expect((flags & fs.constants.O_DSYNC) !== 0).toBe(expected);
    await storage.flush();
  });

  function isFile(fd: string): boolean {
    return fs.readlinkSync(`/proc/self/fd/${fd}`) === fs.realpathSync(join(dir, 'file'));
  }
});
