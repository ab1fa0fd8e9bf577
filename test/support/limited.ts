// Our command in its own process with a limit of time, so that a hang is a failure and not a wait;
// and the process while it runs, for the tests that interrupt it.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { onTestFinished } from 'vitest';
import { CLI } from './cli.ts';
import type { Outcome } from './qemu.ts';

const LIMIT_MS = 20_000;

/** Rejects where it takes longer than the limit or is killed by a signal. */
export function limited(args: readonly string[], cwd: string, env = {}): Promise<Outcome> {
  return run([process.execPath, CLI, ...args], args, { cwd, env, timeout: LIMIT_MS });
}

/** The same under what callers of such tools allow them: 1 GiB of address space, 30 s of CPU. */
export function confined(args: readonly string[], cwd: string): Promise<Outcome> {
  const command = ['prlimit', '--as=1073741824', '--cpu=30', process.execPath, CLI, ...args];
  return run(command, args, { cwd, env: {}, timeout: 10 * LIMIT_MS });
}

function run(
  [program = '', ...rest]: readonly string[],
  args: readonly string[],
  { cwd, env, timeout }: { readonly cwd: string; readonly env: object; readonly timeout: number },
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const options = {
      cwd,
      env: { ...process.env, ...env },
      timeout,
      killSignal: 'SIGKILL' as const,
      maxBuffer: 256 * 1024 * 1024,
    };
    execFile(program, rest, options, (error, stdout, stderr) => {
      const code: unknown = error === null ? 0 : error.code;
      if (typeof code === 'number') resolve({ code, stdout, stderr });
      else reject(new Error(`qimg-ts ${args.join(' ')}: killed or hung\n${stdout}${stderr}`));
    });
  });
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

/** Started, not awaited. Killed when the test is over, should it still run. */
export function start(args: readonly string[], cwd: string, env = {}): Running {
  const child = spawn(process.execPath, [CLI, ...args], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, ended };
}
