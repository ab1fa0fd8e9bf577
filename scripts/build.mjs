// Builds dist/: the command as one CommonJS file (it starts fastest), the library as one ES module
// with its types.

import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

// Without a listener SIGUSR1, which scripts send to see the progress, opens a port of the debugger.
const NO_DEBUGGER = "'use strict';\nprocess.on('SIGUSR1', () => {});";

rmSync('dist', { recursive: true, force: true });
const common = { bundle: true, platform: 'node', target: 'node20.19', logLevel: 'warning' };
await build({
  ...common,
  entryPoints: ['src/cli/main.ts'],
  outfile: 'dist/cli.cjs',
  format: 'cjs',
  banner: { js: `#!/usr/bin/env node\n${NO_DEBUGGER}` },
  external: ['koffi'],
  legalComments: 'inline',
});
chmodSync('dist/cli.cjs', 0o755);
await build({
  ...common,
  entryPoints: ['src/index.ts'],
  outfile: 'dist/index.js',
  format: 'esm',
  packages: 'external',
});
execFileSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' });
renameTypeImports('dist/types');

/** tsc leaves `./x.ts` in declarations, though only x.d.ts is there: `./x.js` is understood by all. */
function renameTypeImports(dir) {
  for (const name of readdirSync(dir, { recursive: true })) {
    if (!name.endsWith('.d.ts')) continue;
    const file = join(dir, name);
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace(/((?:from |import\()'\.[^']*)\.ts'/g, "$1.js'"));
  }
}
