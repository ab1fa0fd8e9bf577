// Any number of hostile images, judged in this process by one that watches it:
// npx tsx scripts/fuzz-images.ts [--seed S] [--count N] [--from N] [--state FILE] [--cli]
//
// Input n of a seed is always the same. With --state, a run goes on where the last one with that file
// ended. With --cli each goes through the built command, in processes of their own. An input that takes all of LIMIT_MS is a finding: the process is ended, another goes on.

import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { watchAllocations } from '../test/support/hostile/allocations.ts';
import { judgeByCommand } from '../test/support/hostile/by-command.ts';
import { type InputSource, inputSource, judgeInput } from '../test/support/hostile/inputs.ts';

const LIMIT_MS = 20_000;
const BATCH = 50;

interface Message {
  readonly next: number;
  readonly findings: readonly string[];
  readonly outcomes: Readonly<Record<string, number>>;
}

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '100000' },
    from: { type: 'string', default: '0' },
    state: { type: 'string' },
    worker: { type: 'boolean', default: false },
    cli: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const count = Number(values.count);
const from = Number(values.from);
if (![seed, count, from].every((n) => Number.isSafeInteger(n) && n >= 0)) {
  throw new Error(`not understood: ${JSON.stringify(values)}`);
}

if (values.worker) await work();
else await watch();

/** Judges inputs and tells the parent how far it is; before each input, which one comes. */
async function work(): Promise<void> {
  const source = await inputSource();
  const largest = watchAllocations();
  let findings: string[] = [];
  let outcomes: Record<string, number> = {};
  for (let n = from; n < count; n++) {
    const started = process.cpuUsage();
    largest.reset();
    const { about, findings: found, outcome } = await judged(source, n);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    const told = [...found];
    const { user, system } = process.cpuUsage(started);
    const ms = (user + system) / 1000;
    if (ms > 2000) told.push(`slow: ${Math.round(ms)} ms of CPU`);
    if (largest.bytes > 24 * 1024 * 1024) told.push(`takes ${largest.bytes} bytes at once`);
    findings.push(...told.map((one) => `${about}\n    ${one}`));
    if (values.cli || (n + 1) % BATCH === 0 || n + 1 === count || told.length > 0) {
      process.send?.({ next: n + 1, findings, outcomes } satisfies Message);
      findings = [];
      outcomes = {};
    }
  }
}

async function judged(
  source: InputSource,
  n: number,
): Promise<{
  readonly about: string;
  readonly findings: readonly string[];
  readonly outcome: string;
}> {
  if (!values.cli) return judgeInput(source, seed, n);
  const input = source(seed, n);
  const findings = await judgeByCommand(input, join(tmpdir(), `qimg-ts-fuzz-${process.pid}`));
  return { about: input.about, findings, outcome: 'run' };
}

async function watch(): Promise<void> {
  let next = values.state && existsSync(values.state) ? resumed(values.state) : from;
  const outcomes: Record<string, number> = {};
  let findings = 0;
  const tell = (text: string) => {
    findings++;
    console.log(text);
  };
  console.log(`seed ${seed}, inputs ${next} to ${count - 1}`);
  while (next < count) {
    const { reached, why } = await oneWorker(next, (message) => {
      for (const one of message.findings) tell(one);
      for (const [name, n] of Object.entries(message.outcomes)) {
        outcomes[name] = (outcomes[name] ?? 0) + n;
      }
      if (values.state) writeFileSync(values.state, JSON.stringify({ seed, next: message.next }));
    });
    if (reached < count) tell(`seed ${seed}, within ${BATCH} inputs of ${reached}: ${why}`);
    next = reached < count ? reached + BATCH : reached;
  }
  console.log(`seed ${seed}: ${findings} findings; ${JSON.stringify(outcomes)}`);
  process.exitCode = findings === 0 ? 0 : 1;
}

function resumed(file: string): number {
  const state = JSON.parse(readFileSync(file, 'utf8')) as { seed: number; next: number };
  if (state.seed !== seed) throw new Error(`${file} is about seed ${state.seed}`);
  return state.next;
}

function oneWorker(
  start: number,
  heard: (message: Message) => void,
): Promise<{ readonly reached: number; readonly why: string }> {
  const args = [
    ...(values.cli ? ['--cli'] : []),
    '--worker',
    '--seed',
    `${seed}`,
    '--count',
    `${count}`,
    '--from',
    `${start}`,
  ];
  const child: ChildProcess = fork(process.argv[1] ?? '', args, { execArgv: process.execArgv });
  return new Promise((resolve) => {
    let reached = start;
    let why = 'the process ended';
    const restart = () =>
      setTimeout(() => {
        why = `nothing for ${LIMIT_MS} ms`;
        child.kill('SIGKILL');
      }, LIMIT_MS * 3);
    let timer = restart();
    child.on('message', (message: Message) => {
      clearTimeout(timer);
      timer = restart();
      reached = message.next;
      heard(message);
      if (reached >= count) child.disconnect();
    });
    child.on('exit', () => {
      clearTimeout(timer);
      resolve({ reached, why });
    });
  });
}
