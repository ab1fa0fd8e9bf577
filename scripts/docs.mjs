// Makes docs/API.md, the reference page, from the published declarations by TypeDoc. TypeDoc needs
// TypeScript 6 or older and so lives in a folder of its own, docs/, beside the project's compiler.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { typesFingerprint } from './types-fingerprint.mjs';

const OUT = 'docs/.out';
/** TypeDoc's page forgets the dots of `readonly [T, ...T[]]`. */
const TUPLE_REST = /readonly \\\[(\[`\w+`\]\(#\w+\)), \1\\\]/g;
const ENTRIES = [
  { file: 'index.md', title: 'qimg-ts' },
  { file: 'testing.md', title: 'qimg-ts/testing' },
];

if (!existsSync('docs/node_modules/typedoc')) {
  const quiet = ['--silent', '--no-audit', '--no-fund', '--ignore-scripts'];
  execFileSync('npm', ['ci', ...quiet, '--prefix', 'docs'], { stdio: 'inherit' });
}
execFileSync(process.execPath, ['node_modules/typedoc/bin/typedoc', '--logLevel', 'Warn'], {
  cwd: 'docs',
  stdio: 'inherit',
});
const head = `<!-- Made by \`npm run docs\` from the comments in src/: change those. ${typesFingerprint()} -->\n`;
writeFileSync('docs/API.md', `${head}\n${ENTRIES.map(pageOf).join('\n')}`);
rmSync(OUT, { recursive: true });

/** Its links lead to other pages of TypeDoc's: here they are on the same one. */
function pageOf({ file, title }) {
  const text = readFileSync(join(OUT, file), 'utf8').replace(/^# .*$/m, `# ${title}`);
  return text
    .replace(/\]\((?:index|testing)\.md(#[^)]*)?\)/g, (_, anchor) => `](${anchor ?? '#'})`)
    .replace(TUPLE_REST, 'readonly \\[$1, ...$1[]\\]');
}
