// Runs one command and tells what it took: time, processor time, peak memory, system calls.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const TIME = '/usr/bin/time';

/** { seconds, cpuSeconds, peakBytes }; null where the machine can't tell. Throws if it fails. */
export async function measure([program, ...args], cwd) {
  if (!existsSync(TIME)) return measureByProc(program, args, cwd);
  const dir = mkdtempSync(join(tmpdir(), 'bench-'));
  try {
    const report = join(dir, 'time');
    const started = process.hrtime.bigint();
    mustRun(TIME, ['-f', '%U %S %M', '-o', report, program, ...args], cwd);
    const seconds = Number(process.hrtime.bigint() - started) / 1e9;
    const [user, system, kibibytes] = readFileSync(report, 'utf8').trim().split(' ').map(Number);
    return { seconds, cpuSeconds: user + system, peakBytes: kibibytes * 1024 };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Without time(1) the peak is looked up while the program runs: short programs get away. */
function measureByProc(program, args, cwd) {
  return new Promise((resolve, reject) => {
    const started = process.hrtime.bigint();
    const child = spawn(program, args, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    let peakBytes = null;
    const look = setInterval(() => {
      peakBytes = Math.max(peakBytes ?? 0, highWaterMark(child.pid)) || null;
    }, 5);
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      const seconds = Number(process.hrtime.bigint() - started) / 1e9;
      clearInterval(look);
      if (code === 0) resolve({ seconds, cpuSeconds: null, peakBytes });
      else reject(new Error(`${program} ${args.join(' ')}: exit ${code}\n${stderr}`));
    });
  });
}

function highWaterMark(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

const COUNTED = {
  sync: ['fdatasync', 'fsync'],
  pread: ['pread64', 'preadv', 'preadv2'],
  pwrite: ['pwrite64', 'pwritev', 'pwritev2'],
  copy: ['copy_file_range'],
  fallocate: ['fallocate'],
};

/** How often a command makes the system calls of each kind. */
export function countCalls([program, ...args], cwd) {
  const dir = mkdtempSync(join(tmpdir(), 'bench-'));
  try {
    const report = join(dir, 'calls');
    const names = Object.values(COUNTED).flat();
    const options = ['-c', '-f', '-o', report, '-e', `trace=${names.join()}`];
    mustRun('strace', [...options, program, ...args], cwd);
    const counts = countsIn(readFileSync(report, 'utf8'));
    const sum = (calls) => calls.reduce((total, name) => total + (counts.get(name) ?? 0), 0);
    return Object.fromEntries(Object.entries(COUNTED).map(([kind, calls]) => [kind, sum(calls)]));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Lines: % time, seconds, usecs/call, calls, perhaps errors, name. */
function countsIn(report) {
  const lines = report.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$/gm);
  return new Map([...lines].map(([, calls, name]) => [name, Number(calls)]));
}

export function mustRun(program, args, cwd) {
  const options = { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] };
  const { status, stdout, stderr, error } = spawnSync(program, args, options);
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(' ')}: ${error ?? `exit ${status}`}\n${stdout}${stderr}`);
}

export function onPath(name) {
  return (process.env.PATH ?? '').split(delimiter).some((dir) => existsSync(join(dir, name)));
}

/** Null where one of them is not known. */
export function median(numbers) {
  if (numbers.includes(null)) return null;
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length % 2 === 1) return sorted[Math.floor(middle)];
  return (sorted[middle - 1] + sorted[middle]) / 2;
}
