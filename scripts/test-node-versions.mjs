// Packs what `npm run build` made, installs it into empty folders, with the optional packages and
// without, and tries it out on each release line of Node.js that we promise; those are fetched first.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fetchProgram, RELEASE_LINES, tryOut } from './try-package.mjs';

const lines = process.argv.length > 2 ? process.argv.slice(2) : RELEASE_LINES;
const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-versions-'));
try {
  npm('.', 'pack', '--ignore-scripts', '--pack-destination', dir);
  const tarball = readdirSync(dir).find((name) => name.endsWith('.tgz'));
  const whole = installed('whole', tarball);
  const bare = installed('bare', tarball, '--omit=optional', '--ignore-scripts');
  for (const line of lines) {
    const node = await fetchProgram(line);
    const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
    tryOut(node, whole, { optional: true });
    console.log(`${version}, with optional packages: ok`);
    tryOut(node, bare, { optional: false });
    console.log(`${version}, without optional packages: ok`);
  }
} finally {
  rmSync(dir, { recursive: true });
}

function installed(name, tarball, ...options) {
  const folder = join(dir, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  npm(folder, 'install', '--no-audit', '--no-fund', ...options, join(dir, tarball));
  return folder;
}

function npm(cwd, ...args) {
  execFileSync('npm', [...args, '--silent'], { cwd, stdio: ['ignore', 'pipe', 'inherit'] });
}
