// Tries an installed package out on one Node.js: a chain is made, written, committed and checked by
// the command and by the library. And gets the release lines of Node.js that we promise.

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

export const RELEASE_LINES = ['20', '22', '24', '26'];
const PROGRAMS = resolve(import.meta.dirname, '..', 'node_modules/.cache/node-versions');
const PACKAGE = `node-${process.platform}-${process.arch}`;

/** Where the program of a release line is, or would be. */
function programOf(line) {
  return join(PROGRAMS, line, 'node_modules', PACKAGE, 'bin', 'node');
}

/**
 * Fetches the program of a release line, unless it is there. npm has it as PACKAGE; the package
 * `node` would need an install script. Rejects where that takes longer than `seconds`.
 */
export async function fetchProgram(line, seconds = 600) {
  const node = programOf(line);
  if (existsSync(node)) return node;
  const quiet = ['--silent', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts'];
  const args = ['install', ...quiet, '--prefix', join(PROGRAMS, line), `${PACKAGE}@${line}`];
  await promisify(execFile)('npm', args, { timeout: seconds * 1000 });
  return node;
}

/** The Node.js that runs, and of the other release lines what can be had within `seconds`. */
export async function nodesAtHand(seconds) {
  const running = { node: process.execPath, version: process.version };
  const lines = RELEASE_LINES.filter((line) => !process.version.startsWith(`v${line}.`));
  const found = await Promise.allSettled(lines.map((line) => fetchProgram(line, seconds)));
  const others = found
    .filter(({ status }) => status === 'fulfilled')
    .map(({ value: node }) => ({ node, version: run(node, ['--version']).trim() }));
  return [running, ...others];
}

/** Throws where something goes wrong. `folder` has the package in its node_modules. */
export function tryOut(node, folder, { optional }) {
  const dir = mkdtempSync(join(folder, 'try-'));
  try {
    commitBy(node, dir, join(folder, 'node_modules', 'qimg-ts', 'dist', 'cli.cjs'), optional);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function commitBy(node, dir, command, optional) {
  const cli = (...args) => run(node, [command, ...args], dir);
  const library = (body) => {
    const program = `
      import assert from 'node:assert/strict';
      import { commit, openChain } from 'qimg-ts';
      const fill = (length, byte) => new Uint8Array(length).fill(byte);
      ${body}`;
    writeFileSync(join(dir, 'program.mjs'), program);
    return run(node, ['program.mjs'], dir);
  };
  const write = (file, offset, length, byte) =>
    library(`
      const chain = await openChain('${file}', { writable: true });
      await chain.write(${offset}, fill(${length}, ${byte}));
      await chain.close();`);

  const there = `console.log(await import('koffi').then(() => true, () => false));`;
  assert.equal(library(there).trim(), String(optional), 'koffi is where it should not be, or not');

  cli('create', '-q', '-f', 'qcow2', 'base.qcow2', '8M');
  write('base.qcow2', 0, 200_000, 1);
  for (const [top, backing] of [
    ['mid.qcow2', 'base.qcow2'],
    ['top.qcow2', 'mid.qcow2'],
  ]) {
    cli('create', '-q', '-f', 'qcow2', '-b', backing, '-F', 'qcow2', top);
  }
  write('mid.qcow2', 100_000, 300_000, 2);
  write('top.qcow2', 1_000_000, 5_000, 3);

  cli('commit', 'top.qcow2');
  library(`await commit('mid.qcow2');`);
  for (const file of ['base.qcow2', 'mid.qcow2', 'top.qcow2']) cli('check', file);
  library(`
    const expected = fill(8 * 1024 * 1024, 0);
    expected.fill(1, 0, 200_000).fill(2, 100_000, 400_000).fill(3, 1_000_000, 1_005_000);
    for (const file of ['base.qcow2', 'top.qcow2']) {
      const chain = await openChain(file);
      const seen = fill(chain.size, 255);
      await chain.read(0, seen);
      await chain.close();
      assert.ok(Buffer.from(seen).equals(expected), file + ' shows other bytes');
    }`);
}

function run(program, args, cwd = process.cwd()) {
  return execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
