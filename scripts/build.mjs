// Builds dist/: the command, the library with its entry for tests, and their types.

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { build } from 'esbuild';

// Without a listener SIGUSR1, which scripts send to see the progress, opens a port of the debugger.
const NO_DEBUGGER = "'use strict';process.on('SIGUSR1',()=>{});";
const TYPES = 'dist/types';
/** The name of a file of ours, as declarations import it. */
const LOCAL = /(?<=from |import\()'(\.[^']*)\.ts'/g;

const target = 'node20.19';
const common = { bundle: true, platform: 'node', target, logLevel: 'warning' };

rmSync('dist', { recursive: true, force: true });
await buildCommand();
await buildLibrary();
buildTypes();

/**
 * CommonJS, which starts faster than ES modules, and a file for each verb, whole: what is read and
 * compiled counts, and each further file does. cli.cjs chooses by the first word alone; where that
 * is no verb (help, errors), the file with all of them is taken.
 */
async function buildCommand() {
  const main = readFileSync('src/cli/verbs.ts', 'utf8');
  const verbs = [...main.matchAll(/import\('\.\/([\w-]+)\.ts'\)/g)].map(([, name]) => name);
  // Completion asks all the others: it is in the file with all of them.
  const alone = verbs.filter((verb) => verb !== 'completion');
  await buildVerb('main', []);
  for (const verb of alone) {
    await buildVerb(
      verb,
      verbs.filter((other) => other !== verb),
    );
  }
  const names = JSON.stringify(alone);
  const daemon = '/(^|\\/)qemu-storage-daemon$/.test(process.argv[1])';
  const verb = `${names}.includes(process.argv[2])?process.argv[2]:'main'`;
  const choice = `${daemon}?'storage-daemon':${verb}`;
  const stub = `#!/usr/bin/env node\n${NO_DEBUGGER}require('./cli/'+(${choice})+'.cjs');\n`;
  writeFileSync('dist/cli.cjs', stub);
  chmodSync('dist/cli.cjs', 0o755);
}

async function buildVerb(name, others) {
  await build({
    ...common,
    entryPoints: ['src/cli/main.ts'],
    outfile: `dist/cli/${name}.cjs`,
    format: 'cjs',
    minify: true,
    external: ['commander', 'koffi', '@koromix/*', 'zstddec', 'fzstd'],
    // require() instead: one import() alone starts the whole loader of ES modules.
    supported: { 'dynamic-import': false },
    legalComments: 'inline',
    plugins: [...(others.length > 0 ? [alone(name, others)] : []), bareBuiltins()],
  });
}

/** esbuild would copy each module of Node.js, which loads all that the module loads when asked. */
function bareBuiltins() {
  const copied = /^import \* as (\w+) from ('node:[^']+');$/gm;
  return {
    name: 'bare builtins',
    setup({ onLoad }) {
      onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => ({
        contents: readFileSync(path, 'utf8').replace(copied, 'import $1 = require($2);'),
        loader: 'ts',
      }));
    },
  };
}

/**
 * Leaves the other verbs out, and has the one loaded with the rest: what could come later is wrapped
 * in functions, with all that it needs, and starts slower.
 */
function alone(verb, others) {
  const lazily = new RegExp(`\\(await import\\('\\./${verb}\\.ts'\\)\\)\\.(\\w+)`);
  const filter = new RegExp(`^\\./(${others.join('|')})\\.ts$`);
  const namespace = 'other verbs';
  return {
    name: namespace,
    setup({ onLoad, onResolve }) {
      onLoad({ filter: /\/cli\/verbs\.ts$/ }, ({ path }) => {
        const text = readFileSync(path, 'utf8');
        const [found, runVerb] = lazily.exec(text);
        const contents = `import { ${runVerb} } from './${verb}.ts';\n${text.replace(found, runVerb)}`;
        return { contents, loader: 'ts' };
      });
      // Only where the verbs are listed: other files may have such names, too.
      onResolve({ filter }, ({ path, importer }) =>
        importer.endsWith('/cli/verbs.ts') ? { path, namespace } : undefined,
      );
      onLoad({ filter: /.*/, namespace }, () => ({ contents: 'module.exports = {};' }));
    },
  };
}

/** Both entries share their parts, so that an ImageError of one is an ImageError of the other. */
async function buildLibrary() {
  await build({
    ...common,
    entryPoints: ['src/index.ts', 'src/testing.ts'],
    outdir: 'dist',
    chunkNames: 'shared-[hash]',
    format: 'esm',
    splitting: true,
    packages: 'external',
  });
}

/** Declarations of what can be reached from the entries: the engine's own are nobody's business. */
function buildTypes() {
  const scratch = join(TYPES, '.all');
  const tsc = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json', '--outDir', scratch];
  execFileSync(process.execPath, tsc, { stdio: 'inherit' });
  const reached = new Set(['index.d.ts', 'testing.d.ts'].map((name) => join(scratch, name)));
  // A Set that grows is walked to its new end.
  for (const file of reached) {
    const target = join(TYPES, relative(scratch, file));
    mkdirSync(dirname(target), { recursive: true });
    const text = readFileSync(file, 'utf8');
    for (const [, name] of text.matchAll(LOCAL)) reached.add(join(dirname(file), `${name}.d.ts`));
    // tsc leaves `./x.ts`, though only x.d.ts is there: `./x.js` is understood by all.
    writeFileSync(
      target,
      text.replace(LOCAL, (found) => found.replace(/\.ts'$/, ".js'")),
    );
  }
  rmSync(scratch, { recursive: true });
}
