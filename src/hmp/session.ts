// One client of a human monitor: a prompt, a line, what it prints, and so on.

import type { Interpreter } from './interpreter.ts';
import { LineEditor } from './line-editor.ts';

export interface HmpLine {
  /** One byte for each character. */
  send(bytes: Uint8Array): void;
  pause(): void;
  resume(): void;
}

export interface HmpSessionOptions {
  readonly version: string;
  readonly interpreter: Interpreter;
  readonly inTurn: <T>(run: () => Promise<T>) => Promise<T>;
}

export class HmpSession {
  readonly #line: HmpLine;
  readonly #options: HmpSessionOptions;
  readonly #editor: LineEditor;
  /** Came while a command was running. */
  #waiting: number[] = [];
  #running = false;
  #closed = false;

  constructor(line: HmpLine, options: HmpSessionOptions) {
    this.#line = line;
    this.#options = options;
    this.#editor = new LineEditor('(qemu) ', {
      send: (text) => this.#send(text),
      enter: (entered) => void this.#run(entered),
      complete: (before) => options.interpreter.complete(before),
    });
    this.#send(`QEMU ${options.version} monitor - type 'help' for more information\r\n`);
    this.#editor.start();
  }

  feed(bytes: Uint8Array): void {
    for (const byte of bytes) this.#waiting.push(byte);
    this.#goOn();
  }

  close(): void {
    this.#closed = true;
  }

  #goOn(): void {
    const bytes = this.#waiting;
    this.#waiting = [];
    for (const [i, byte] of bytes.entries()) {
      if (this.#running) {
        this.#waiting.push(...bytes.slice(i));
        return;
      }
      this.#editor.feed(byte);
    }
  }

  async #run(line: string): Promise<void> {
    this.#running = true;
    this.#line.pause();
    const { interpreter, inTurn } = this.#options;
    const text = await inTurn(() => interpreter.run(line));
    this.#send(text, true);
    this.#running = false;
    if (this.#closed) return;
    this.#editor.start();
    this.#line.resume();
    this.#goOn();
  }

  #send(text: string, decoded = false): void {
    if (this.#closed) return;
    const bytes = decoded
      ? new TextEncoder().encode(text)
      : Uint8Array.from(text, (char) => char.charCodeAt(0));
    this.#line.send(bytes);
  }
}
