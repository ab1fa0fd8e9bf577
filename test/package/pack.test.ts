// What we publish works for somebody who installs it: the tarball in an empty folder.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mustIn } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const TIMEOUT = { timeout: 300_000 };
const { dir, cleanup } = makeTemp();
const installed = join(dir, 'node_modules', 'qimg-ts');

beforeAll(async () => {
  // Without its scripts: dist is there, and building it anew would pull it from under other tests.
  await mustIn(ROOT, 'npm', 'pack', '--silent', '--ignore-scripts', '--pack-destination', dir);
  const tarball = readdirSync(dir).find((name) => name.endsWith('.tgz')) ?? 'no tarball';
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  const quick = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'];
  await mustIn(dir, 'npm', 'install', '--omit=optional', ...quick, '--prefix', dir, `./${tarball}`);
}, TIMEOUT.timeout);

afterAll(cleanup);

test('the package holds the command, the library, its types, and nothing of the workshop', () => {
  const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
  const wanted = [
    'LICENSE',
    'README.md',
    'dist/cli.cjs',
    'dist/index.js',
    'dist/types/index.d.ts',
    'man/qimg-ts.1',
    'package.json',
  ];
  expect(wanted.filter((name) => !files.includes(name))).toEqual([]);
  const top = new Set(files.map((file) => file.split('/')[0] ?? ''));
  const known = ['CHANGELOG.md', 'LICENSE', 'README.md', 'dist', 'man', 'package.json'];
  expect([...top].filter((name) => !known.includes(name))).toEqual([]);
});

test('installing it runs nothing', () => {
  const { scripts = {} } = manifest();
  const hooks = ['preinstall', 'install', 'postinstall', 'prepare'];
  expect(hooks.filter((hook) => Object.hasOwn(scripts, hook))).toEqual([]);
});

test('the command runs, without optional packages too', async () => {
  const command = join(dir, 'node_modules', '.bin', 'qimg-ts');
  expect(await mustIn(dir, command, '--help')).toMatch(/\bcommit\b/);
  expect(await mustIn(dir, command, '--version')).toContain(manifest().version);
});

test('the library can be imported', async () => {
  const program = `
    import { Qcow2Image, commit, openChain } from 'qimg-ts';
    console.log([openChain, commit, Qcow2Image].map((one) => typeof one).join());
  `;
  writeFileSync(join(dir, 'use.js'), program);
  const printed = await mustIn(dir, process.execPath, 'use.js');
  expect(printed.trim()).toBe('function,function,function');
});

test('the types are found and mean something', async () => {
  const program = `
    import { type CommitResult, commit, openChain } from 'qimg-ts';
    await using chain = await openChain('disk.qcow2');
    const layers: number = chain.layers.length;
    // @ts-expect-error A count is no string.
    const wrong: string = chain.layers.length;
    // @ts-expect-error There is no such option.
    const result: CommitResult = await commit('disk.qcow2', { noSuchOption: true });
    export { layers, result, wrong };
  `;
  writeFileSync(join(dir, 'use.ts'), program);
  const language = [
    '--module',
    'nodenext',
    '--target',
    'es2023',
    '--lib',
    'es2023,esnext.disposable',
  ];
  const node = ['--types', 'node', '--typeRoots', join(ROOT, 'node_modules', '@types')];
  const tsc = join(ROOT, 'node_modules', '.bin', 'tsc');
  await mustIn(dir, tsc, '--noEmit', '--strict', ...language, ...node, 'use.ts');
});

interface Manifest {
  readonly version: string;
  readonly scripts?: Readonly<Record<string, string>>;
}

function manifest(): Manifest {
  return JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as Manifest;
}
