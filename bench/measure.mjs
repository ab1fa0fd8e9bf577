// Runs one command and tells what it took: time, processor time, peak memory, system calls.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { follow } from './cleanup.mjs';

/** time(1): a shell's keyword tells no memory. */
export const TIME = '/usr/bin/time';

/** What a program that must not fail prints. `input` goes to its standard input. */
export function run([program, ...args], { cwd, input } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, detached: true });
    follow(child);
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        output[name] += text;
      });
    }
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(output.stdout);
      const words = `${program} ${args.join(' ')}`.slice(0, 500);
      const said = `${output.stdout}${output.stderr}`.slice(-2000);
      reject(new Error(`${words}: ${signal ?? `exit ${code}`}\n${said}`));
    });
    // Who ends before having read it all says why.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

/** { seconds, cpuSeconds, peakBytes } of a command that must not fail. */
export function measure(command, cwd) {
  return reported(async (report) => {
    const started = process.hrtime.bigint();
    await run([TIME, '-f', '%U %S %M', '-o', report, ...command], { cwd });
    const seconds = Number(process.hrtime.bigint() - started) / 1e9;
    const [user, system, kibibytes] = readFileSync(report, 'utf8').trim().split(' ').map(Number);
    return { seconds, cpuSeconds: user + system, peakBytes: kibibytes * 1024 };
  });
}

/** Kinds of system calls; clones of extents and holes are ioctl and fallocate. */
const COUNTED = {
  sync: ['fdatasync', 'fsync'],
  read: ['pread64', 'preadv', 'preadv2', 'read'],
  write: ['pwrite64', 'pwritev', 'pwritev2'],
  copy: ['copy_file_range', 'ioctl'],
  fallocate: ['fallocate'],
};

/** How often a command makes the system calls of each kind, in all of its threads. */
export function countCalls(command, cwd) {
  return reported(async (report) => {
    const names = Object.values(COUNTED).flat();
    const options = ['-c', '-f', '-o', report, '-e', `trace=${names.join()}`];
    await run(['strace', ...options, ...command], { cwd });
    const counts = countsIn(readFileSync(report, 'utf8'));
    const sum = (calls) => calls.reduce((total, name) => total + (counts.get(name) ?? 0), 0);
    return Object.fromEntries(Object.entries(COUNTED).map(([kind, calls]) => [kind, sum(calls)]));
  });
}

async function reported(work) {
  const dir = mkdtempSync(join(tmpdir(), 'bench-'));
  try {
    return await work(join(dir, 'report'));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Lines: % time, seconds, usecs/call, calls, perhaps errors, name. */
function countsIn(report) {
  const lines = report.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$/gm);
  return new Map([...lines].map(([, calls, name]) => [name, Number(calls)]));
}

export function onPath(name) {
  return (process.env.PATH ?? '').split(delimiter).some((dir) => existsSync(join(dir, name)));
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length % 2 === 1) return sorted[Math.floor(middle)];
  return (sorted[middle - 1] + sorted[middle]) / 2;
}
