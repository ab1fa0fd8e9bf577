// One client of a human monitor: a prompt, a line, what it prints, and so on.

import type { Interpreter } from './interpreter.ts';
import { LineEditor } from './line-editor.ts';

export interface HmpLine {
  /** One byte for each character. */
  send(bytes: Uint8Array): void;
  pause(): void;
  resume(): void;
  /** Resolves when there is room for more, or nobody there. */
  hasRoom(): Promise<void>;
}

export interface HmpSessionOptions {
  readonly version: string;
  readonly interpreter: Interpreter;
  readonly inTurn: <T>(run: () => Promise<T>) => Promise<T>;
  /** Whether all ends, so that there is nothing more to ask for. */
  readonly ends?: () => boolean;
}

/** Keys that are taken before it is asked whether there is room for what they draw. */
const KEYS_AT_ONCE = 256;

export class HmpSession {
  readonly #line: HmpLine;
  readonly #options: HmpSessionOptions;
  readonly #editor: LineEditor;
  /** Came and was not taken yet. */
  #waiting: Uint8Array[] = [];
  #entered: string | undefined;
  #working = false;
  #closed = false;

  constructor(line: HmpLine, options: HmpSessionOptions) {
    this.#line = line;
    this.#options = options;
    this.#editor = new LineEditor('(qemu) ', {
      send: (text) => this.#send(Uint8Array.from(text, (char) => char.charCodeAt(0))),
      enter: (entered) => {
        this.#entered = entered;
      },
      complete: (before) => options.interpreter.complete(before),
    });
    this.#print(`QEMU ${options.version} monitor - type 'help' for more information\r\n`);
    this.#editor.start();
  }

  feed(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    if (!this.#working) void this.#work();
  }

  close(): void {
    this.#closed = true;
    this.#waiting = [];
  }

  async #work(): Promise<void> {
    this.#working = true;
    this.#line.pause();
    for (let bytes = this.#waiting.shift(); bytes !== undefined; bytes = this.#waiting.shift()) {
      const left = bytes.subarray(this.#type(bytes));
      if (left.length > 0) this.#waiting.unshift(left);
      await this.#run();
      await this.#line.hasRoom();
    }
    this.#working = false;
    this.#line.resume();
  }

  /** Up to the end of a line; returns how many were taken. */
  #type(bytes: Uint8Array): number {
    let taken = 0;
    while (taken < Math.min(bytes.length, KEYS_AT_ONCE) && this.#entered === undefined) {
      this.#editor.feed(bytes[taken++] ?? 0);
    }
    return taken;
  }

  async #run(): Promise<void> {
    const line = this.#entered;
    if (line === undefined || this.#closed) return;
    this.#entered = undefined;
    const { interpreter, inTurn, ends } = this.#options;
    this.#print(await inTurn(() => interpreter.run(line)));
    if (ends?.() !== true) this.#editor.start();
  }

  #print(text: string): void {
    this.#send(new TextEncoder().encode(text));
  }

  #send(bytes: Uint8Array): void {
    if (!this.#closed) this.#line.send(bytes);
  }
}
