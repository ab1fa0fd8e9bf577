// What `npm run bench -- ...` understands, and what it refuses before anything is made.

import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CURVES } from './curves.mjs';
import { DISKS, diskProblems, HERE, kindOf } from './disks.mjs';
import { onPath, TIME } from './measure.mjs';
import { ROWS } from './rows.mjs';

export const CLI = fileURLToPath(new URL('../dist/cli.cjs', import.meta.url));
const RESULTS = fileURLToPath(new URL('results', import.meta.url));
export const NONE = 'none';

const OPTIONS = {
  rows: { type: 'string', default: ROWS.map(({ name }) => name).join() },
  curves: { type: 'string', default: CURVES.map(({ name }) => name).join() },
  fs: { type: 'string', default: 'ext4,xfs,btrfs' },
  'curve-fs': { type: 'string' },
  cache: { type: 'string', default: 'warm,cold' },
  scale: { type: 'string', default: '1' },
  runs: { type: 'string', default: '5' },
  node: { type: 'string', default: '24,20' },
  dir: { type: 'string', default: tmpdir() },
  out: { type: 'string', default: RESULTS },
  help: { type: 'boolean', default: false },
};

export const USAGE = `npm run bench -- [options]

Measures commits beside qemu-img's, on file systems that it makes in files (as root) and removes.

  --rows LIST      rows of the matrix, or ${NONE} (default: all)
                   ${ROWS.map(({ name }) => name).join(' ')}
  --curves LIST    growth curves, or ${NONE} (default: all): ${CURVES.map(({ name }) => name).join(' ')}
  --fs LIST        where: ${DISKS.join(', ')} (default: ${OPTIONS.fs.default})
                   ${HERE}: the file system of --dir as it is, without root
  --curve-fs LIST  where the curves are measured (default: the first of --fs)
  --cache LIST     on ext4: ${OPTIONS.cache.default} (default: both; cold needs root)
  --scale N        times the sizes of the data (default 1; 0.05 is a quick look)
  --runs N         runs of each program, in turns (default 5; curves: at most 3)
  --node LIST      release lines, or programs, of Node.js (default ${OPTIONS.node.default}); the first one counts
  --dir DIR        where files are made (default: ${tmpdir()})
  --out DIR        where results are written (default: bench/results)`;

/** The options, checked; throws an Error whose message is for people. */
export async function readOptions(args) {
  const { values } = parseArgs({ args, options: OPTIONS });
  if (values.help) return { help: true };
  const list = (name) => (values[name] === NONE ? [] : values[name].split(','));
  const options = {
    rows: chosen(ROWS, list('rows'), 'rows'),
    curves: chosen(CURVES, list('curves'), 'curves'),
    disks: list('fs'),
    curveDisks: (values['curve-fs'] ?? values.fs.split(',')[0]).split(','),
    caches: list('cache'),
    scale: above0('scale', Number(values.scale)),
    runs: above0('runs', Number(values.runs)),
    nodes: list('node'),
    dir: resolve(values.dir),
    out: resolve(values.out),
  };
  for (const problem of await problems(options)) throw new Error(problem);
  return options;
}

function chosen(known, names, option) {
  const unknown = names.filter((name) => !known.some((one) => one.name === name));
  if (unknown.length === 0) return known.filter(({ name }) => names.includes(name));
  throw new Error(`--${option}: there is no ${unknown.join()}\n\n${USAGE}`);
}

function above0(option, number) {
  if (number > 0 && (option !== 'runs' || Number.isInteger(number))) return number;
  throw new Error(`--${option} must be a number above 0${option === 'runs' ? ', whole' : ''}`);
}

async function problems(options) {
  const { rows, curves, disks, curveDisks, caches, scale, dir } = options;
  const found = [];
  if (!existsSync(CLI)) found.push('There is no dist/cli.cjs: run `npm run build` first');
  if (!existsSync(dir)) found.push(`--dir: there is no ${dir}`);
  if (!existsSync(TIME)) found.push(`${TIME} is missing: apt-get install time`);
  for (const program of ['qemu-img', 'qemu-io', 'strace', 'filefrag']) {
    if (!onPath(program)) found.push(`${program} is not on the path`);
  }
  const strange = caches.filter((cache) => cache !== 'warm' && cache !== 'cold');
  if (strange.length > 0) found.push(`--cache can't be ${strange.join()}: warm, cold`);
  if (found.length > 0) return found;
  const where = [...(rows.length > 0 ? disks : []), ...(curves.length > 0 ? curveDisks : [])];
  const bytes = [
    ...rows.map((row) => row.data * scale),
    ...curves.flatMap((one) => one.points(scale).map((point) => one.data(point, scale))),
  ];
  found.push(...diskProblems([...new Set(where)], dir, Math.max(0, ...bytes)));
  const coldRow = rows.some((row) => row.targets.ext4?.cold !== undefined);
  const onExt4 = where.includes('ext4') || (where.includes(HERE) && (await kindOf(dir)) === 'ext4');
  if (coldRow && onExt4 && caches.includes('cold') && process.getuid?.() !== 0) {
    found.push('Emptying the page cache needs root: use sudo, or --cache warm');
  }
  return found;
}
