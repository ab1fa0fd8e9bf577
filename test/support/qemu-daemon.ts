// A qemu-storage-daemon to compare with: started with nodes, led over QMP.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

type Message = Readonly<Record<string, unknown>>;

export class QemuDaemon {
  readonly #process: ChildProcess;
  readonly #socket: Socket;
  readonly #waiting: ((message: Message) => void)[] = [];
  readonly #messages: Message[] = [];

  private constructor(child: ChildProcess, socket: Socket) {
    this.#process = child;
    this.#socket = socket;
    // It ends with the connection open.
    socket.on('error', () => undefined);
    const lines = createInterface({ input: socket });
    lines.on('error', () => undefined);
    lines.on('line', (line) => {
      const { timestamp: _, ...message } = JSON.parse(line) as Message;
      const waiting = this.#waiting.shift();
      if (waiting) waiting(message);
      else this.#messages.push(message);
    });
  }

  /** In a directory, where its socket comes to be, too. `program`: the daemon and what goes before. */
  static async start(
    dir: string,
    args: readonly string[],
    program: readonly string[] = ['qemu-storage-daemon'],
  ): Promise<QemuDaemon> {
    const path = join(dir, 'qmp.sock');
    const chardev = 'socket,path=qmp.sock,server=on,wait=off,id=c';
    const [command = '', ...first] = program;
    const all = [...first, '--chardev', chardev, '--monitor', 'chardev=c', ...args];
    const child = spawn(command, all, { cwd: dir, stdio: ['ignore', 'inherit', 'inherit'] });
    while (!existsSync(path)) {
      if (child.exitCode !== null) throw new Error(`${command} ended with ${child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const socket = connect(path);
    await once(socket, 'connect');
    const daemon = new QemuDaemon(child, socket);
    await daemon.next();
    await daemon.say('qmp_capabilities');
    return daemon;
  }

  /** The next event or reply. */
  next(): Promise<Message> {
    const message = this.#messages.shift();
    if (message) return Promise.resolve(message);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** All that comes up to the reply, which is the last one. */
  async say(
    command: string,
    args?: Readonly<Record<string, unknown>>,
  ): Promise<readonly Message[]> {
    const message = { execute: command, ...(args && { arguments: args }) };
    this.#socket.write(`${JSON.stringify(message)}\n`);
    const answers: Message[] = [];
    for (;;) {
      const answer = await this.next();
      answers.push(answer);
      if ('return' in answer || 'error' in answer) return answers;
    }
  }

  /** Up to and with a change of a job to that state. */
  async until(status: string): Promise<readonly Message[]> {
    const heard: Message[] = [];
    for (;;) {
      const message = await this.next();
      heard.push(message);
      const data = message['data'] as { status?: string } | undefined;
      if (data?.status === status) return heard;
    }
  }

  async quit(): Promise<readonly Message[]> {
    const answers = await this.say('quit');
    if (this.#process.exitCode === null) await once(this.#process, 'exit');
    return answers;
  }
}
