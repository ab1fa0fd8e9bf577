// Callers start us thousands of times, and under tight limits.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { CLI } from '../support/cli.ts';
import { mustIn, run } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const FILES = join(dirname(CLI), 'cli');

test('works with 1 GiB of address space and half a minute of processor time', async () => {
  const dir = tempDir();
  const limited = (...args: readonly string[]) =>
    mustIn(dir, 'prlimit', '--as=1073741824', '--cpu=30', process.execPath, CLI, ...args);
  await limited('create', '-q', '-f', 'qcow2', 'base.qcow2', '64M');
  await limited('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2');
  expect(await limited('info', '--backing-chain', 'top.qcow2')).toContain('base.qcow2');
  expect(await limited('check', 'top.qcow2')).toContain('No errors');
  expect(await limited('commit', 'top.qcow2')).toBe('Image committed.\n');
  expect(await limited('info', '--help')).toContain('--backing-chain');
});

test('a chain of 199 layers of 16 TiB each is opened, mapped and compared under the same limits', async () => {
  const dir = tempDir();
  const name = (i: number) => `l${String(i).padStart(3, '0')}.qcow2`;
  const create = ['create', '-q', '-f', 'qcow2'];
  await mustIn(dir, 'qemu-img', ...create, name(0), '16T');
  await mustIn(dir, 'qemu-img', ...create, '-b', name(0), '-F', 'qcow2', name(1));
  const overlay = readFileSync(join(dir, name(1)));
  const place = overlay.indexOf(name(0));
  for (let i = 2; i < 199; i++) {
    overlay.write(name(i - 1), place);
    writeFileSync(join(dir, name(i)), overlay);
  }
  const limited = (...args: readonly string[]) =>
    mustIn(dir, 'prlimit', '--as=1073741824', '--cpu=30', process.execPath, CLI, ...args);
  expect(await limited('info', '--backing-chain', name(198))).toContain(`image: ${name(0)}`);
  expect(await limited('map', '--output=json', name(198))).toContain('"length": 17592186044416');
  expect(await limited('compare', name(198), name(197))).toBe('Images are identical.\n');
  expect(await limited('commit', '--dry-run', name(198))).toContain('Nothing was written');
});

/** What a run loads, by name, as `require` is asked for it. */
async function loadedBy(dir: string, ...args: readonly string[]): Promise<readonly string[]> {
  const spy = `
    const { prototype } = require('node:module');
    const { require: original } = prototype;
    const names = [];
    prototype.require = function (name) { names.push(name); return original.call(this, name); };
    process.on('exit', () => require('node:fs').writeFileSync('loaded', names.join('\\n')));`;
  writeFileSync(join(dir, 'spy.cjs'), spy);
  await mustIn(dir, process.execPath, '--require', './spy.cjs', CLI, ...args);
  const names = readFileSync(join(dir, 'loaded'), 'utf8').split('\n');
  return [...new Set(names)].filter((name) => !/^(node:)?(fs|path|os|process)$/.test(name)).sort();
}

test('info loads its own file, and for the locks koffi: no more', async () => {
  const dir = tempDir();
  await mustIn(dir, process.execPath, CLI, 'create', '-q', '-f', 'qcow2', 'a.qcow2', '1M');
  const loaded = await loadedBy(dir, 'info', 'a.qcow2');
  const koffi = loaded.filter((name) => /koffi/.test(name));
  expect(loaded.filter((name) => !koffi.includes(name))).toEqual(['./cli/info.cjs']);
  if (process.arch === 'x64') expect(koffi).not.toContain('koffi');
  expect(await loadedBy(dir, '--version')).not.toContain('koffi');
});

test('a word that is no verb finds the file with all of them', async () => {
  const dir = tempDir();
  expect(await loadedBy(dir, '--help')).toContain('./cli/main.cjs');
  const { code, stderr } = await run(process.execPath, [CLI, 'nosuch'], { cwd: dir });
  expect([code, stderr]).toEqual([1, expect.stringContaining('Command not found: nosuch')]);
});

test('no module of Node.js is copied, which would load all that it loads when asked', () => {
  for (const file of readdirSync(FILES)) {
    const text = readFileSync(join(FILES, file), 'utf8');
    expect(text).not.toMatch(
      /(?<![\w$]|=>\s*)[\w$]+\(require\("node:(fs|path|os|timers\/promises)"\)/,
    );
  }
});
