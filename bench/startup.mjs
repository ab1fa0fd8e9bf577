// How long `qimg-ts info` on a small image takes, next to the bare start of the same Node.js: pairs
// of runs, one after the other, so that what else the machine does meets both. Further programs of
// Node.js may be named as arguments.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const PAIRS = 21;
const CLI = resolve('dist/cli.cjs');
const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-startup-'));
try {
  const image = join(dir, 'small.qcow2');
  timed(process.execPath, [CLI, 'create', '-q', '-f', 'qcow2', image, '64M']);
  for (const node of [process.execPath, ...process.argv.slice(2)]) report(node, image);
} finally {
  rmSync(dir, { recursive: true });
}

function report(node, image) {
  const bare = [];
  const info = [];
  const ratios = [];
  for (let i = 0; i < PAIRS; i++) {
    bare.push(timed(node, ['-e', '0']));
    info.push(timed(node, [CLI, 'info', image]));
    ratios.push(info.at(-1) / bare.at(-1));
  }
  const { stdout: version } = spawnSync(node, ['--version'], { encoding: 'utf8' });
  console.log(
    `${version.trim()}: node -e 0 ${median(bare).toFixed(1)} ms, ` +
      `info ${median(info).toFixed(1)} ms, ratio ${median(ratios).toFixed(2)}`,
  );
}

function timed(node, args) {
  const start = performance.now();
  const { status, stderr } = spawnSync(node, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const milliseconds = performance.now() - start;
  if (status !== 0) throw new Error(`${args.join(' ')}: ${stderr}`);
  return milliseconds;
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}
