// Tries every operation by power cuts until that many different states were looked at:
// npm run crash -- [--states N] [--seed S] [--only REGEXP] [--jobs N] [--progress FILE]
//
// Prints the table of ARCHITECTURE.md. Stopped (Ctrl-C, SIGTERM), and started again with the same seed,
// jobs and file, it goes on where it was. A state that breaks a promise is kept in a directory, and ends
// it. With `--jobs`, so many processes share the operations.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { CRASH_OPERATIONS } from '../test/support/crash-operations/index.ts';
import type { CrashOperation } from '../test/support/crash-operations/scene.ts';
import { judgeByQemu } from '../test/support/crash-qemu.ts';
import { CrashFailure, tryOperation } from '../test/support/crash-trial.ts';

/** States of one layout; and how many there may be for all of them to be looked at. */
const STATES = 250;
const ALL = 4000;
/** QEMU is asked about one of so many. */
const JUDGED = 60;

interface Sum {
  layouts: number;
  events: number;
  states: number;
  /** States of layouts of which none was left out. */
  whole: number;
  judged: number;
  seconds: number;
}

const { values } = parseArgs({
  options: {
    states: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    jobs: { type: 'string', default: '1' },
    /** Which of them this one is, from 1; none has started others. */
    job: { type: 'string', default: '0' },
    progress: { type: 'string', default: join(tmpdir(), 'qimg-ts-crash-campaign.json') },
  },
});
const wanted = Number(values.states);
const seed = Number(values.seed);
const jobs = Number(values.jobs);
const job = Number(values.job);
const file = fileOf(job);
if (!(wanted > 0) || !Number.isSafeInteger(seed) || !(jobs >= 1) || !(job <= jobs)) {
  throw new Error(`not understood: ${JSON.stringify(values)}`);
}
const only = new RegExp(values.only);
const operations = CRASH_OPERATIONS.filter(({ name }) => only.test(name)).filter(
  (_, i) => job === 0 || i % jobs === job - 1,
);
const sums = load(file);
let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    stopped = true;
  });
}

function fileOf(which: number): string {
  return which === 0 ? values.progress : `${values.progress}.${which}-of-${jobs}`;
}

function load(file: string): Map<string, Sum> {
  if (!existsSync(file)) return new Map();
  const saved = JSON.parse(readFileSync(file, 'utf8')) as { seed: number; sums: [string, Sum][] };
  return new Map(saved.seed === seed ? saved.sums : []);
}

function save(): void {
  writeFileSync(`${file}.new`, JSON.stringify({ seed, sums: [...sums] }));
  renameSync(`${file}.new`, file);
}

const sumOf = (name: string): Sum =>
  sums.get(name) ?? { layouts: 0, events: 0, states: 0, whole: 0, judged: 0, seconds: 0 };
const total = (): number => operations.reduce((sum, { name }) => sum + sumOf(name).states, 0);

async function tryOnce(operation: CrashOperation): Promise<void> {
  const sum = { ...sumOf(operation.name) };
  const started = performance.now();
  const tally = await tryOperation(operation, {
    // The same layout for all operations alike, another one each time.
    seed: (seed * 1_000_003 + sum.layouts) % 2 ** 31,
    states: STATES,
    all: ALL,
    onState: async (files, random) => {
      if (stopped) throw new Stopped();
      if (random(JUDGED) > 0) return;
      await judgeByQemu(files);
      sum.judged++;
    },
  });
  sum.layouts++;
  sum.events += tally.events;
  sum.states += tally.states;
  if (tally.exhaustive) sum.whole += tally.states;
  sum.seconds += (performance.now() - started) / 1000;
  sums.set(operation.name, sum);
  save();
}

function report(): void {
  const number = (value: number) => value.toLocaleString('en-US');
  console.log('| operation | layouts | changes and syncs | states | judged by QEMU |');
  console.log('| --- | ---: | ---: | ---: | ---: |');
  for (const { name } of operations) {
    const { layouts, events, states, whole, judged } = sumOf(name);
    const all = whole === states && states > 0 ? ' (all)' : '';
    const cells = [layouts, events].map(number);
    console.log(`| ${[name, ...cells, number(states) + all, number(judged)].join(' | ')} |`);
  }
  const all = operations.map(({ name }) => sumOf(name));
  const sum = (pick: (each: Sum) => number) => all.reduce((so, each) => so + pick(each), 0);
  const cells = [sum((s) => s.layouts), sum((s) => s.events), sum((s) => s.states)];
  console.log(`| all | ${[...cells, sum((s) => s.judged)].map(number).join(' | ')} |`);
  console.log(`seed ${seed}, ${Math.round(sum((s) => s.seconds))} s`);
}

/** Keeps what was left, to be looked at. */
function keep(error: CrashFailure): void {
  const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-crash-'));
  for (const [name, bytes] of error.files) writeFileSync(join(dir, basename(name)), bytes);
  console.log(`The files of that state are in ${dir}.`);
}

class Stopped extends Error {}

async function tryAll(): Promise<void> {
  while (!stopped && total() < wanted / (job === 0 ? 1 : jobs)) {
    // Each gets as much time as the others.
    const [next] = [...operations].sort((a, b) => sumOf(a.name).seconds - sumOf(b.name).seconds);
    if (next === undefined) throw new Error(`no operation's name fits '${values.only}'`);
    await tryOnce(next).catch((error: unknown) => {
      // What was begun is begun again.
      if (!(error instanceof Error && error.cause instanceof Stopped)) throw error;
    });
  }
}

/** Each job in a process of its own; what they tell is summed up here. */
async function startJobs(): Promise<void> {
  const starting = Array.from({ length: jobs }, (_, i) => {
    const args = [...process.execArgv, ...process.argv.slice(1), '--job', String(i + 1)];
    const child = spawn(process.execPath, args, { stdio: 'inherit' });
    // From a terminal they hear of it by themselves.
    process.once('SIGTERM', () => child.kill('SIGTERM'));
    return new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
  });
  const codes = await Promise.all(starting);
  for (let i = 1; i <= jobs; i++) for (const [name, sum] of load(fileOf(i))) sums.set(name, sum);
  if (codes.some((code) => code !== 0)) process.exitCode = 1;
}

try {
  if (jobs > 1 && job === 0) await startJobs();
  else await tryAll();
  if (job === 0) report();
  if (stopped && job === 0) console.log(`Stopped; the same command goes on. So far: ${file}*`);
} catch (error) {
  if (error instanceof CrashFailure) keep(error);
  throw error;
}
