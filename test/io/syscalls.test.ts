// How the system calls are reached: in bundles of both kinds, not before they are needed, and errno.

import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { loadSyscalls } from '../../src/io/syscalls.ts';
import { pattern } from '../support/storage-contract.ts';
import { makeTemp, tempDir } from '../support/temp.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const calls = (await loadSyscalls())!;
// Inside of the package, so that a bundle finds koffi.
const bundles = makeTemp();
afterAll(bundles.cleanup);

function file(content: Uint8Array): number {
  const name = join(tempDir(), 'file');
  fs.writeFileSync(name, content);
  const fd = fs.openSync(name, 'r+');
  onTestFinished(() => fs.closeSync(fd));
  return fd;
}

async function runBundle(
  format: 'cjs' | 'esm',
  program: string,
  env: Record<string, string> = {},
): Promise<unknown> {
  const outfile = join(bundles.dir, `bundle.${format === 'cjs' ? 'cjs' : 'mjs'}`);
  await build({
    stdin: { contents: program, resolveDir: join(ROOT, 'src', 'io'), loader: 'ts' },
    bundle: true,
    platform: 'node',
    format,
    external: ['koffi', '@koromix/*'],
    outfile,
    logLevel: 'error',
  });
  const modules = join(bundles.dir, 'node_modules');
  if (!fs.existsSync(modules)) fs.symlinkSync(join(ROOT, 'node_modules'), modules);
  const node = execFileSync(process.execPath, [outfile], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  return JSON.parse(node);
}

const LOAD = `
  import { loadSyscalls } from './syscalls.ts';
  loadSyscalls().then((calls) => console.log(JSON.stringify(calls !== null)));
`;

test.for(['cjs', 'esm'] as const)('they load in a bundle: %s', async (format) => {
  expect(await runBundle(format, LOAD)).toBe(true);
});

test('they can be switched off', async () => {
  expect(await runBundle('cjs', LOAD, { QIMG_TS_NO_SYSCALLS: '1' })).toBe(false);
});

test('two copies of the module in one process both work', async () => {
  const twice = `
    import { loadSyscalls } from './syscalls.ts';
    import { loadSyscalls as again } from './syscalls.ts?copy';
    Promise.all([loadSyscalls(), again()]).then((all) =>
      console.log(JSON.stringify(all.map((calls) => calls !== null))));
  `;
  expect(await runBundle('esm', twice)).toEqual([true, true]);
});

test('nothing is loaded before it is needed', async () => {
  const program = `
    import './node-host.ts';
    const loaded = Object.keys(require.cache).filter((name) => /koffi|zstd/.test(name));
    console.log(JSON.stringify(loaded));
  `;
  expect(await runBundle('cjs', program)).toEqual([]);
});

test('errno comes back right, from many calls at once', async () => {
  const source = file(pattern(4096, 1));
  const target = file(new Uint8Array());
  const codeOf = (call: Promise<number>) =>
    call.then(String, (error: NodeJS.ErrnoException) => error.code);
  const outcomes = await Promise.all(
    Array.from({ length: 40 }, (_, i) => {
      // In turn: a bad descriptor, an overlap within one file, and a copy.
      if (i % 3 === 0) return codeOf(calls.copyFileRange(source, 0, 9999, 0, 100));
      if (i % 3 === 1) return codeOf(calls.copyFileRange(source, 0, source, 50, 100));
      return codeOf(calls.copyFileRange(source, 0, target, i * 100, 100));
    }),
  );
  expect(outcomes).toEqual(outcomes.map((_, i) => ['EBADF', 'EINVAL', '100'][i % 3]));
});

test('errno of calls that run at once', () => {
  const fd = file(new Uint8Array(10));
  const failure = (code: string) => expect.objectContaining({ code });
  expect(() => calls.fallocate(9999, 3, 0, 1)).toThrow(failure('EBADF'));
  expect(() => calls.fallocate(fd, 3, 0, 0)).toThrow(failure('EINVAL'));
  expect(() => calls.seekData(9999, 0)).toThrow(failure('EBADF'));
  expect(() => calls.blockDeviceSize(fd)).toThrow(failure('ENOTTY'));
  expect(() => calls.lockShared(9999, 100)).toThrow(failure('EBADF'));
  expect(() => calls.lockedByOthers(9999, 100)).toThrow(failure('EBADF'));
});

test('offsets past 2^32 arrive whole', () => {
  const fd = file(new Uint8Array(1));
  const far = 2 ** 40;
  fs.ftruncateSync(fd, far + 8192);
  fs.writeSync(fd, new Uint8Array(4096), 0, 4096, far);
  expect(calls.seekData(fd, 2 ** 33)).toBe(far);
  expect(calls.seekHole(fd, far)).toBe(far + 4096);
  calls.fallocate(fd, 3, far, 4096);
  expect(calls.seekData(fd, 2 ** 33)).toBeUndefined();
});

test('a lock is seen by other descriptors, not by its own', () => {
  const fd = file(new Uint8Array(1));
  const other = fs.openSync(`/proc/self/fd/${fd}`, 'r');
  onTestFinished(() => fs.closeSync(other));
  expect(calls.lockShared(fd, 101)).toBe(true);
  expect(calls.lockShared(other, 101)).toBe(true);
  calls.unlock(other, 101);
  expect(calls.lockedByOthers(fd, 101)).toBe(false);
  expect(calls.lockedByOthers(other, 101)).toBe(true);
  expect(calls.lockedByOthers(other, 102)).toBe(false);
});
