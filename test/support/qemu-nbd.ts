// qemu-nbd and nbdkit as servers.

import { type ChildProcess, spawn } from 'node:child_process';
import { connect } from 'node:net';
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

/** qemu-nbd, which serves any number of clients until the test ends. */
export async function qemuNbd(
  file: string,
  options: readonly string[] = [],
  socket = newSocket(),
): Promise<ForeignServer> {
  return untilTestEnds(await startQemuNbd(file, options, socket));
}

/** The same until it is stopped. */
export function startQemuNbd(
  file: string,
  options: readonly string[],
  socket: string,
): Promise<ForeignServer> {
  const args = ['--persistent', '--shared=0', `--socket=${socket}`, ...options, file];
  return start('qemu-nbd', args, socket);
}

/** nbdkit until the test ends. */
export async function nbdkit(
  args: readonly string[],
  socket = newSocket(),
): Promise<ForeignServer> {
  const all = ['--foreground', '--exit-with-parent', `--unix=${socket}`, ...args];
  return untilTestEnds(await start('nbdkit', all, socket));
}

function untilTestEnds(server: ForeignServer): ForeignServer {
  onTestFinished(() => server.stop('SIGKILL'));
  return server;
}

/** Where nothing is yet. */
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
  while (!(await accepts(socket))) {
    if (process.exitCode !== null || process.signalCode !== null || process.pid === undefined) {
      throw new Error(`${program} did not start: ${said}`);
    }
    await sleep(10);
  }
  return { socket, process, stop };
}

/** A socket is there before anybody listens. */
function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const client = connect({ path: socket });
    client.once('connect', () => {
      client.destroy();
      resolve(true);
    });
    client.once('error', () => resolve(false));
  });
}
