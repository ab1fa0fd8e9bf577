// Going to the background. Node.js can't fork, so the program is started once more, and the first one
// waits until the second says that all has started, passing on what that has to say.

import { spawn } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
import type { ProgramContext } from './program.ts';

/** Set for the one in the background; it tells on this file descriptor that it is ready. */
const VARIABLE = 'QIMG_TS_READY_FD';
const READY_FD = 3;

export function isDaemon({ env }: ProgramContext): boolean {
  return env[VARIABLE] !== undefined;
}

/** Resolves to the exit code once the one in the background has started, or could not. */
export async function daemonize(
  argv: readonly string[],
  { env, name, err }: ProgramContext,
): Promise<number> {
  const [node, script = ''] = process.argv;
  const verb = name === 'qimg-ts' ? ['storage-daemon'] : [];
  const child = spawn(node ?? process.execPath, [...process.execArgv, script, ...verb, ...argv], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    env: { ...env, [VARIABLE]: String(READY_FD) },
  });
  child.stderr?.on('data', (bytes: Buffer) => err(bytes.toString()));
  const ready = child.stdio[READY_FD] as NodeJS.ReadableStream;
  return await new Promise<number>((resolve) => {
    ready.once('data', () => resolve(0));
    child.once('error', () => resolve(1));
    child.once('close', (code) => resolve(code ?? 1));
  });
}

/** The one that waits may go. */
export function tellReady(program: ProgramContext): void {
  if (!isDaemon(program)) return;
  writeSync(READY_FD, 'ready');
  closeSync(READY_FD);
}
