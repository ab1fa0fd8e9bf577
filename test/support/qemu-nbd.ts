// qemu-nbd and nbdkit as servers, until the test ends.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { tempDir } from './temp.ts';

export interface ForeignServer {
  readonly socket: string;
  readonly process: ChildProcess;
  /** Resolves when it is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** qemu-nbd, which serves any number of clients. */
export function qemuNbd(
  file: string,
  options: readonly string[] = [],
  socket = newSocket(),
): Promise<ForeignServer> {
  const args = ['--persistent', '--shared=0', `--socket=${socket}`, ...options, file];
  return start('qemu-nbd', args, socket);
}

export function nbdkit(args: readonly string[], socket = newSocket()): Promise<ForeignServer> {
  return start(
    'nbdkit',
    ['--foreground', '--exit-with-parent', `--unix=${socket}`, ...args],
    socket,
  );
}

export function newSocket(): string {
  return join(tempDir(), 'foreign.sock');
}

async function start(
  program: string,
  args: readonly string[],
  socket: string,
): Promise<ForeignServer> {
  const process = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  process.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const gone = new Promise<void>((resolve) => {
    process.once('exit', () => resolve());
    process.once('error', (error) => {
      said += error.message;
      resolve();
    });
  });
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    process.kill(signal);
    await gone;
  };
  onTestFinished(() => stop('SIGKILL'));
  while (!existsSync(socket)) {
    if (process.exitCode !== null || process.pid === undefined) {
      throw new Error(`${program} did not start: ${said}`);
    }
    await sleep(10);
  }
  return { socket, process, stop };
}
