// What we publish works for somebody who installs it: the tarball in an empty folder, with its
// optional packages and without, types in each way of finding them, on the release lines of Node.js
// that can be had within seconds (their versions are in the tests' names). `npm run test:versions`
// takes its time and tries them all.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nodesAtHand, tryOut } from '../../scripts/try-package.mjs';
import { makeConsumer, type Resolution, ROOT, typeCheck } from '../support/consumer.ts';
import { mustIn } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const { dir, cleanup } = makeTemp();
const installs = { whole: join(dir, 'whole'), bare: join(dir, 'bare') };
const installed = join(installs.bare, 'node_modules', 'qimg-ts');

beforeAll(async () => {
  // Without its scripts: dist is there, and building it anew would pull it from under other tests.
  await mustIn(ROOT, 'npm', 'pack', '--silent', '--ignore-scripts', '--pack-destination', dir);
  const tarball = readdirSync(dir).find((name) => name.endsWith('.tgz')) ?? 'no tarball';
  const quick = ['--prefer-offline', '--no-audit', '--no-fund', `../${tarball}`];
  for (const [folder, options] of [
    [installs.whole, []],
    [installs.bare, ['--omit=optional', '--ignore-scripts']],
  ] as const) {
    await mustIn(dir, 'mkdir', folder);
    makeConsumer(folder, { link: false });
    await mustIn(folder, 'npm', 'install', ...options, ...quick, '--prefix', folder);
  }
}, 300_000);

afterAll(cleanup);

test('the package holds the command, the library, its types, and nothing of the workshop', () => {
  const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
  const wanted = [
    'LICENSE',
    'README.md',
    'dist/cli.cjs',
    'dist/index.js',
    'dist/testing.js',
    'dist/types/index.d.ts',
    'dist/types/testing.d.ts',
    'docs/API.md',
    'examples/http-storage.ts',
    'man/qimg-ts.1',
    'package.json',
  ];
  expect(wanted.filter((name) => !files.includes(name))).toEqual([]);
  const top = new Set(files.map((file) => file.split('/')[0] ?? ''));
  const documents = ['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md'];
  const known = [...documents, 'dist', 'docs', 'examples', 'man'];
  expect([...top].filter((name) => !known.includes(name))).toEqual(['package.json']);
});

test('its types show the interface, and nothing of the engine', () => {
  const types = readdirSync(join(installed, 'dist', 'types'));
  expect(types.sort()).toEqual([
    'api',
    'errors.d.ts',
    'index.d.ts',
    'io',
    'testing',
    'testing.d.ts',
  ]);
  const io = readdirSync(join(installed, 'dist', 'types', 'io'));
  expect(io.sort()).toEqual([
    'events.d.ts',
    'host.d.ts',
    'locks.d.ts',
    'memory-host.d.ts',
    'memory.d.ts',
    'storage.d.ts',
  ]);
});

test('every name that its types export can be imported from an entry', () => {
  const folder = join(installed, 'dist', 'types');
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const entries = ['index.d.ts', 'testing.d.ts'];
  const published = entries.map((name) => readFileSync(join(folder, name), 'utf8')).join();
  const exported = /^export (?:declare )?(?:function|class|interface|type|const) (\w+)/gm;
  const names = files
    .filter((name) => name.endsWith('.d.ts') && !entries.includes(name))
    .flatMap((name) => [...readFileSync(join(folder, name), 'utf8').matchAll(exported)])
    .map(([, name]) => name ?? '');
  expect(names.length).toBeGreaterThan(40);
  expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(published))).toEqual([]);
});

test('installing it runs nothing', () => {
  const { scripts = {} } = manifest();
  const hooks = ['preinstall', 'install', 'postinstall', 'prepare'];
  expect(hooks.filter((hook) => Object.hasOwn(scripts, hook))).toEqual([]);
});

test('the command runs by its name', async () => {
  const command = join(installs.bare, 'node_modules', '.bin', 'qimg-ts');
  expect(await mustIn(dir, command, '--help')).toMatch(/\bcommit\b/);
  expect(await mustIn(dir, command, '--version')).toContain(manifest().version);
});

test.for<Resolution>(['node16', 'nodenext', 'bundler'])('types are found by %s', async (by) => {
  const program = `
    import { type CommitPlan, commit, type Storage, openChain } from 'qimg-ts';
    import { storageContract } from 'qimg-ts/testing';
    await using chain = await openChain('disk.qcow2');
    const layers: number = chain.layers.length;
    // @ts-expect-error A count is no string.
    const wrong: string = chain.layers.length;
    // @ts-expect-error There is no such option.
    const plan: CommitPlan = await commit('disk.qcow2', { noSuchOption: true });
    // @ts-expect-error That is nobody's business.
    chain.layers[0].tables;
    const isStorage = (it: Storage) => storageContract(async () => ({ open: async () => it }));
    export { isStorage, layers, plan, wrong };
  `;
  writeFileSync(join(installs.whole, 'use.ts'), program);
  await typeCheck(installs.whole, ['use.ts'], by);
});

test('types need neither those of Node.js nor settings for what is to be disposed of', async () => {
  const program = `
    import { openChain } from 'qimg-ts';
    const chain = await openChain('disk.qcow2', { signal: AbortSignal.timeout(1000) });
    await chain[Symbol.asyncDispose]();
    export {};
  `;
  writeFileSync(join(installs.whole, 'web.ts'), program);
  await typeCheck(installs.whole, ['web.ts'], 'bundler', 'web');
});

describe.for(await nodesAtHand(20))('Node.js $version', ({ node }) => {
  test('command and library work', () => {
    tryOut(node, installs.whole, { optional: true });
  });

  test('and without optional packages, their scripts not run', () => {
    tryOut(node, installs.bare, { optional: false });
  });
});

interface Manifest {
  readonly version: string;
  readonly scripts?: Readonly<Record<string, string>>;
}

function manifest(): Manifest {
  return JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as Manifest;
}
