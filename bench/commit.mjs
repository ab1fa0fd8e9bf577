// Our commit against qemu-img's, in pairs, on fresh copies of the same chain: see README.md.

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CASES, ChainMaker } from './cases.mjs';
import { countCalls, measure, median, mustRun, onPath } from './measure.mjs';

const CLI = fileURLToPath(new URL('../dist/cli.cjs', import.meta.url));
const { values: options } = parseArgs({
  options: {
    dir: { type: 'string', default: tmpdir() },
    runs: { type: 'string', default: '5' },
    case: { type: 'string', multiple: true, default: [] },
    node: { type: 'string', default: process.execPath },
    large: { type: 'boolean', default: false },
    cold: { type: 'boolean', default: false },
    strace: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const runs = Number(options.runs);
const PROGRAMS = {
  ours: [resolve(options.node), CLI, 'commit'],
  theirs: ['qemu-img', 'commit'],
};

await main();

async function main() {
  if (options.help) return console.log(usage());
  const cases = chosenCases();
  for (const problem of problems(cases)) return fail(problem);
  const dir = mkdtempSync(join(resolve(options.dir), 'qimg-ts-bench-'));
  // Whatever ends us, images of this size must not stay.
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
  console.log(`${machine()}\n`);
  const rows = [];
  for (const one of cases) {
    if (process.stderr.isTTY) process.stderr.write(`${one.name} ...\x1b[K\r`);
    rows.push({ ...one, ...(await runCase(one, dir)) });
  }
  console.log(table(rows));
  if (options.strace) console.log(`\n${callsTable(rows)}`);
}

function usage() {
  return `node bench/commit.mjs [options]
  --dir DIR    the file system to measure on (default: ${tmpdir()})
  --runs N     pairs of runs for each case (default 5)
  --case NAME  this case only (repeatable): ${CASES.map(({ name }) => name).join(' ')}
  --node PATH  the node program that runs our command
  --large      real sizes: some gigabytes, minutes
  --cold       empty the page cache before each run (as root)
  --strace     count system calls too`;
}

function chosenCases() {
  if (options.case.length === 0) return CASES;
  return CASES.filter(({ name }) => options.case.includes(name));
}

function* problems(cases) {
  const unknown = options.case.filter((name) => !CASES.some((one) => one.name === name));
  if (unknown.length > 0) yield `There is no case ${unknown.join(', ')}.\n${usage()}`;
  if (!(Number.isInteger(runs) && runs > 0)) yield '--runs must be a whole number above 0';
  if (!existsSync(CLI)) yield 'There is no dist/cli.cjs: run `npm run build` first';
  if (cases.length > 0 && !onPath('qemu-img')) yield 'qemu-img is not on the path';
  if (options.strace && !onPath('strace')) yield 'strace is not on the path';
  if (options.cold && process.getuid?.() !== 0) yield '--cold needs root';
}

async function runCase(one, dir) {
  const pristine = join(dir, 'pristine');
  mkdirSync(pristine);
  try {
    const chain = one.make(new ChainMaker(pristine), options.large ? one.large : 1);
    const samples = { ours: [], theirs: [] };
    for (let run = 0; run < runs; run++) {
      // Who goes first changes: what the first one leaves in the caches helps the second.
      const order = run % 2 === 0 ? ['ours', 'theirs'] : ['theirs', 'ours'];
      for (const who of order) samples[who].push(await sample(who, one, chain, dir));
    }
    verify(chain, dir);
    const calls = options.strace ? callsOfBoth(chain, dir) : undefined;
    return { ...summary(samples), calls };
  } finally {
    for (const name of ['pristine', 'ours', 'theirs']) {
      rmSync(join(dir, name), { recursive: true, force: true });
    }
  }
}

async function sample(who, { repeat = 1 }, chain, dir) {
  const copy = freshCopy(who, dir);
  const results = [];
  for (let i = 0; i < repeat; i++) results.push(await measure(commandOf(who, chain), copy));
  return {
    seconds: median(results.map(({ seconds }) => seconds)),
    cpuSeconds: median(results.map(({ cpuSeconds }) => cpuSeconds)),
    peakBytes: Math.max(...results.map(({ peakBytes }) => peakBytes)),
  };
}

function commandOf(who, { top, args = [] }) {
  return [...PROGRAMS[who], ...args, top];
}

/** Nobody pays for writing out what was copied before. */
function freshCopy(who, dir) {
  const copy = join(dir, who);
  rmSync(copy, { recursive: true, force: true });
  mustRun('cp', ['-r', '--sparse=always', '--reflink=never', join(dir, 'pristine'), copy]);
  mustRun('sync', []);
  if (options.cold) writeFileSync('/proc/sys/vm/drop_caches', '3');
  return copy;
}

/** Both bases show what the chain showed before, and ours is sound. */
function verify({ top, base, baseFormat = 'qcow2' }, dir) {
  const before = join(dir, 'pristine', top);
  for (const who of ['ours', 'theirs']) {
    const after = join(dir, who, base);
    mustRun('qemu-img', ['compare', '-f', 'qcow2', '-F', baseFormat, before, after]);
  }
  const ours = join(dir, 'ours');
  mustRun('qemu-img', ['compare', before, join(ours, top)]);
  mustRun('qemu-img', ['check', join(ours, top)]);
  if (baseFormat === 'qcow2') mustRun('qemu-img', ['check', join(ours, base)]);
}

function callsOfBoth(chain, dir) {
  const calls = {};
  for (const who of ['ours', 'theirs']) {
    const copy = freshCopy(who, dir);
    calls[who] = countCalls(commandOf(who, chain), copy);
  }
  return calls;
}

function summary(samples) {
  const of = (who, key) => median(samples[who].map((one) => one[key]));
  const both = (key) => ({ ours: of('ours', key), theirs: of('theirs', key) });
  const seconds = both('seconds');
  return {
    seconds,
    cpuSeconds: both('cpuSeconds'),
    peakBytes: both('peakBytes'),
    ratio: seconds.ours / seconds.theirs,
  };
}

function machine() {
  const [cpu] = cpus();
  const version = (program, args) => mustRun(program, args).split('\n')[0].trim();
  const fileSystem = version('stat', ['-f', '-c', '%T', options.dir]);
  const how = [
    `${runs} pairs`,
    options.cold ? 'cold cache' : 'warm cache',
    options.large ? 'large' : 'small',
  ];
  return [
    new Date().toISOString().slice(0, 16).replace('T', ' '),
    `${cpu?.model ?? 'unknown processor'}, ${cpus().length} processors, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, ${fileSystem}`,
    `Node.js ${version(options.node, ['--version'])}; ${version('qemu-img', ['--version'])}`,
    `${how.join(', ')}; medians; ratio: our time / qemu-img's, below 1 we are faster`,
  ].join('\n');
}

function table(rows) {
  const words = (value, digits) => (value === null ? '-' : value.toFixed(digits));
  const memory = (bytes) => (bytes ? String(Math.round(bytes / 2 ** 20)) : '-');
  return columns([
    ['case', 'ours s', 'qemu s', 'ratio', 'cpu', 'qemu', 'MiB', 'qemu', ''],
    ...rows.map(({ name, seconds, cpuSeconds, peakBytes, ratio, about }) => [
      name,
      words(seconds.ours, 3),
      words(seconds.theirs, 3),
      words(ratio, 2),
      words(cpuSeconds.ours, 2),
      words(cpuSeconds.theirs, 2),
      memory(peakBytes.ours),
      memory(peakBytes.theirs),
      about,
    ]),
  ]);
}

function callsTable(rows) {
  const kinds = Object.keys(rows[0].calls.ours);
  return columns([
    ['calls', ...kinds.flatMap((kind) => [kind, 'qemu'])],
    ...rows.map(({ name, calls }) => [
      name,
      ...kinds.flatMap((kind) => [String(calls.ours[kind]), String(calls.theirs[kind])]),
    ]),
  ]);
}

/** The first column holds words, as does one without a heading: to the left; numbers to the right. */
function columns(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const isWords = (i) => i === 0 || rows[0][i] === '';
  const line = (row) =>
    row
      .map((cell, i) => (isWords(i) ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd();
  return rows.map(line).join('\n');
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}
