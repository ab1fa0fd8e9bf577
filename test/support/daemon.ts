// The storage daemon as a process, ours or QEMU's, and a client of its monitor.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { CLI } from './cli.ts';

export type Whose = 'ours' | 'qemu';

export interface DaemonEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

export interface RunningDaemon {
  readonly child: ChildProcess;
  readonly ended: Promise<DaemonEnd>;
}

/** The words that start the daemon: QEMU's, or ours by a link of the same name. */
function daemonCommand(whose: Whose): readonly string[] {
  if (whose === 'qemu') return ['qemu-storage-daemon'];
  const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-link-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const link = join(dir, 'qemu-storage-daemon');
  symlinkSync(CLI, link);
  return [process.execPath, link];
}

export function startDaemon(whose: Whose, args: readonly string[], cwd: string): RunningDaemon {
  return startProgram([...daemonCommand(whose), ...args], cwd);
}

/** Killed when the test is over, should it still run. */
export function startProgram(
  [program = '', ...args]: readonly string[],
  cwd: string,
): RunningDaemon {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let stderr = '';
  child.stderr?.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  const ended = new Promise<DaemonEnd>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stderr }));
  });
  return { child, ended };
}

/** Options for a monitor at `qmp.sock` in the working directory. */
export const MONITOR: readonly string[] = [
  '--chardev',
  'socket,id=qmp,path=qmp.sock,server=on,wait=off',
].concat(['--monitor', 'chardev=qmp']);

const PATIENCE = 60_000;

export type Message = { readonly [key: string]: unknown };

/** A client of a monitor: of QMP as a rule. */
export class Client {
  readonly socket: Socket;
  #text = '';
  #ended = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => {
      this.#text += bytes.toString('latin1');
      this.#wake();
    });
    for (const event of ['close', 'error', 'end']) {
      socket.on(event, () => {
        this.#ended = true;
        this.#wake();
      });
    }
    onTestFinished(() => void socket.destroy());
  }

  /** Waits for the socket to be there. */
  static async connect(path: string): Promise<Client> {
    for (let waited = 0; waited < PATIENCE; waited += 20) {
      if (existsSync(path)) {
        const socket = await connected(path);
        if (socket !== undefined) return new Client(socket);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`nobody listens at ${path}`);
  }

  /** Greeted, and ready for commands. */
  static async open(path: string): Promise<Client> {
    const client = await Client.connect(path);
    await client.textUntil(/\r\n/);
    await client.run('qmp_capabilities');
    return client;
  }

  get ended(): boolean {
    return this.#ended;
  }

  send(data: string | Uint8Array): void {
    this.socket.write(data);
  }

  /** All that came up to and with the first text that matches, which is taken. */
  async textUntil(pattern: RegExp): Promise<string> {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const found = pattern.exec(this.#text);
      if (found !== null) {
        const end = found.index + found[0].length;
        const text = this.#text.slice(0, end);
        this.#text = this.#text.slice(end);
        return text;
      }
      if (this.#ended || Date.now() > deadline) {
        throw new Error(`${this.#ended ? 'ended' : 'waited'} for ${pattern}:\n${this.#text}`);
      }
      await this.#more(deadline);
    }
  }

  async #more(deadline: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, deadline - Date.now()));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** The rest, once the other side has ended. */
  async rest(): Promise<string> {
    const deadline = Date.now() + PATIENCE;
    while (!this.#ended && Date.now() < deadline) await this.#more(deadline);
    return this.#text;
  }

  /** What a command returns. Throws what it was refused with. */
  async run(execute: string, args?: object): Promise<unknown> {
    this.send(`${JSON.stringify({ execute, ...(args && { arguments: args }) })}\n`);
    for (;;) {
      const message = JSON.parse(await this.textUntil(/\r\n/)) as Message;
      if ('error' in message) throw new Error((message['error'] as { desc: string }).desc);
      if ('return' in message) return message['return'];
      this.events.push(message);
    }
  }

  /** Those that came before replies. */
  readonly events: Message[] = [];

  /** The next event of this name, whether it came already or not. */
  async event(name: string): Promise<Message> {
    for (;;) {
      const at = this.events.findIndex(({ event }) => event === name);
      const [found] = at < 0 ? [] : this.events.splice(at, 1);
      if (found !== undefined) return found;
      this.events.push(JSON.parse(await this.textUntil(/\r\n/)) as Message);
    }
  }
}

function connected(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection({ path }, () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}
