// The direction of imports in src/ is as planned; and the checker that says so can say no.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { importsOf, importViolations } from './import-rules.ts';

const SRC = join(import.meta.dirname, '..', '..', 'src');

function readSources(): ReadonlyMap<string, string> {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' });
  return new Map(
    files
      .filter((file) => file.endsWith('.ts'))
      .map((file) => [file, readFileSync(join(SRC, file), 'utf8')]),
  );
}

test('src keeps the direction of imports, without cycles and dead files', () => {
  const sources = readSources();
  expect(sources.size).toBeGreaterThan(0);
  expect(importViolations(sources)).toEqual([]);
});

type Changes = Readonly<Record<string, string>>;

/** A small house in which everything is as it should be. */
const HOUSE: Changes = {
  'index.ts': `export { openChain } from './api/open-chain.ts';\nexport { MemoryHost } from './io/memory-host.ts';`,
  'api/open-chain.ts': `import { openChain as open } from '../chain/open.ts';`,
  'cli/main.ts': `import { writeSync } from 'node:fs';\nimport { program } from 'commander';\nconst run = () => import('./commit.ts');`,
  'cli/commit.ts': `import { commit } from '../commit/commit.ts';\nimport { nodeHost } from '../io/node-host.ts';`,
  'commit/commit.ts': `import { openChain } from '../chain/open.ts';\nimport type { Storage } from '../io/storage.ts';`,
  'chain/open.ts': `import { Qcow2Image } from '../qcow2/image.ts';\nimport { RawImage } from '../raw/raw.ts';`,
  'qcow2/image.ts': `import {\n  type Layer,\n  other,\n} from '../layer.ts';\nimport type { Table } from './tables.ts';\nimport { align } from '../units.ts';`,
  'qcow2/tables.ts': `import type { Qcow2Image } from './image.ts'; // only the type comes back`,
  'raw/raw.ts': `import type { Layer } from '../layer.ts';`,
  'layer.ts': `import type { Storage } from './io/storage.ts';`,
  'units.ts': `import { ImageError } from './errors.ts';`,
  'errors.ts': '// Knows nothing. Not: import("./units.ts")',
  'io/storage.ts': '',
  'io/memory-host.ts': `import type { Storage } from './storage.ts';`,
  'io/node-host.ts': `import { loadSyscalls } from './syscalls.ts';`,
  'io/syscalls.ts': `import { loadKoffi } from './koffi.ts';`,
  'io/koffi.ts': `const load = async () => (await import('koffi')).default;\ntype Koffi = typeof import('koffi');`,
};

function violationsWith(changes: Changes): readonly string[] {
  const house = new Map(Object.entries(HOUSE));
  // Added to what is there, so that the rest of the house stays alive.
  for (const [file, source] of Object.entries(changes)) {
    house.set(file, `${house.get(file) ?? ''}\n${source}`);
  }
  return importViolations(house);
}

const kept = (file: string) => ({ 'cli/main.ts': `import '../${file}';` });

const OFFENCES: readonly [string, Changes, string | readonly string[]][] = [
  [
    'chain enters commit',
    { 'chain/open.ts': `import type { Plan } from '../commit/plan.ts';` },
    'chain/open.ts imports ../commit/plan.ts: chain may not enter commit',
  ],
  [
    'raw enters qcow2',
    { 'raw/raw.ts': `import { HEADER } from '../qcow2/spec.ts';` },
    'raw/raw.ts imports ../qcow2/spec.ts: raw may not enter qcow2',
  ],
  [
    'qcow2 enters raw by a dynamic import',
    { 'qcow2/image.ts': `const raw = await import('../raw/raw.ts');` },
    'qcow2/image.ts imports ../raw/raw.ts: qcow2 may not enter raw',
  ],
  [
    'a type is taken by an inline import',
    { 'units.ts': `export type A = import('./layer.ts').Layer;` },
    'units.ts imports ./layer.ts: units may not enter layer',
  ],
  [
    'something is passed on from above',
    { 'layer.ts': `export type * from './chain/open.ts';` },
    'layer.ts imports ./chain/open.ts: layer may not enter chain',
  ],
  [
    'io enters the engine',
    { 'io/storage.ts': `import type { Layer } from '../layer.ts';` },
    'io/storage.ts imports ../layer.ts: io may not enter layer',
  ],
  [
    'a protocol enters another',
    { 'nbd/server.ts': `import { parse } from '../qmp/parse.ts';`, ...kept('nbd/server.ts') },
    'nbd/server.ts imports ../qmp/parse.ts: nbd may not enter qmp',
  ],
  [
    'the daemon enters the command line',
    { 'daemon/jobs.ts': `import { Exit } from '../cli/options.ts';`, ...kept('daemon/jobs.ts') },
    'daemon/jobs.ts imports ../cli/options.ts: daemon may not enter cli',
  ],
  [
    'the library enters the command line',
    { 'index.ts': `export { main } from './cli/main.ts';` },
    'index.ts imports ./cli/main.ts: index may not enter cli',
  ],
  [
    'a room is not in the plan',
    { 'attic/box.ts': `import '../errors.ts';`, ...kept('attic/box.ts') },
    [
      'cli/main.ts imports ../attic/box.ts: cli may not enter attic',
      'attic/box.ts imports ../errors.ts: attic has no place in import-rules.ts',
    ],
  ],
  [
    'an import leads out of src',
    { 'cli/main.ts': `import data from '../../package.json' with { type: 'json' };` },
    'cli/main.ts imports ../../package.json: it leads out of src',
  ],
  [
    'the engine imports a module of Node.js',
    { 'commit/commit.ts': `import * as fs from 'node:fs';` },
    'commit/commit.ts imports node:fs: the engine knows neither Node.js nor packages',
  ],
  [
    'the engine imports a package',
    { 'qcow2/image.ts': `import type { Command } from 'commander';` },
    'qcow2/image.ts imports commander: the engine knows neither Node.js nor packages',
  ],
  [
    'the seam itself imports a module of Node.js',
    { 'io/storage.ts': `import { open } from 'fs';` },
    'io/storage.ts imports fs: the engine knows neither Node.js nor packages',
  ],
  [
    'the engine uses what Node.js brings without import',
    { 'qcow2/image.ts': 'const bytes = Buffer.alloc(1);' },
    'qcow2/image.ts uses Buffer: the engine does not know Node.js',
  ],
  [
    'the engine enters a part of io that is bound to Node.js',
    { 'chain/open.ts': `import { nodeHost } from '../io/node-host.ts';` },
    'chain/open.ts imports ../io/node-host.ts: it is bound to Node.js',
  ],
  [
    'a portable part of io leans on one that is bound to Node.js',
    { 'io/memory-host.ts': `import { call } from './syscalls.ts';` },
    'io/memory-host.ts imports ./syscalls.ts: it is bound to Node.js',
  ],
  [
    'the library of native calls is imported elsewhere',
    { 'io/node-host.ts': `const k = await import('koffi');` },
    'io/node-host.ts imports koffi: that is for io/koffi.ts alone',
  ],
  [
    'the library of native calls is named elsewhere',
    { 'io/node-host.ts': `const name = 'koffi';` },
    'io/node-host.ts names koffi: that is for io/koffi.ts alone',
  ],
  [
    'a loader hides what is loaded',
    { 'io/node-host.ts': `const require = createRequire(import.meta.url);` },
    'io/node-host.ts uses createRequire: import it, so that it is seen',
  ],
  [
    'an import is computed',
    { 'cli/main.ts': `const verb = await import('./' + name);` },
    'cli/main.ts imports something: computed, so nobody can tell what it is',
  ],
  [
    'files import each other',
    {
      'qcow2/image.ts': `import { Tables } from './tables.ts';`,
      'qcow2/tables.ts': `import { Qcow2Image } from './image.ts';`,
    },
    'cycle: qcow2/image.ts -> qcow2/tables.ts -> qcow2/image.ts',
  ],
  [
    'a file imports itself',
    { 'raw/raw.ts': `import { RawImage } from './raw.ts';` },
    'cycle: raw/raw.ts -> raw/raw.ts',
  ],
  [
    'nobody imports a file',
    { 'chain/old.ts': `import { openChain } from './open.ts';` },
    'chain/old.ts is dead: neither index.ts nor testing.ts nor cli/main.ts leads to it',
  ],
];

describe('the checker', () => {
  test('finds nothing where everything is in order', () => {
    expect(violationsWith({})).toEqual([]);
  });

  test('finds nothing in an empty house, nor in one without entries', () => {
    expect(importViolations(new Map())).toEqual([]);
    expect(importViolations(new Map([['errors.ts', '']]))).toEqual([]);
  });

  test.each(OFFENCES)('notices when %s', (_what, changes, violations) => {
    expect(violationsWith(changes)).toEqual([violations].flat());
  });
});

describe('imports are read from a source', () => {
  test.each([
    [`import a from './a.ts';`, './a.ts', false],
    [`import * as a from "./a.ts";`, './a.ts', false],
    [`import { type A } from './a.ts';`, './a.ts', false],
    [`import type { A } from './a.ts';`, './a.ts', true],
    [`import type * as a from './a.ts';`, './a.ts', true],
    [`import {\n  a,\n  b,\n} from './a.ts';`, './a.ts', false],
    [`import d, { a as b } from './a.ts';`, './a.ts', false],
    [`import './a.ts';`, './a.ts', false],
    [`export * from './a.ts';`, './a.ts', false],
    [`export type { A } from './a.ts';`, './a.ts', true],
    [`const a = await import('./a.ts');`, './a.ts', false],
    [`const a = import('./a.ts').then(use);`, './a.ts', false],
    [`let a: import('./a.ts').A;`, './a.ts', true],
    [`let a: typeof import('./a.ts');`, './a.ts', true],
    [`const s = '/* no comment'; const a = import('./a.ts'); /* one */`, './a.ts', false],
    ['const a = import(name);', null, false],
  ] as const)('%s', (source, specifier, typeOnly) => {
    expect(importsOf(source)).toEqual([{ specifier, typeOnly }]);
  });

  test.each([
    `// import a from './a.ts';`,
    `/**\n * import('./a.ts')\n */`,
    `export const a = 'from';\nconst b = 'x';`,
    `export function from(a: string): void {}`,
    'const url = import.meta.url;',
  ])('not from %s', (source) => {
    expect(importsOf(source)).toEqual([]);
  });
});
