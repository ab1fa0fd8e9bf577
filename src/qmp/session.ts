// One client of a QMP monitor: greeting, negotiation, its commands one after the other, their replies,
// and the events that happen meanwhile.

import { type Message, MessageStream, type WireValue } from '../json/messages.ts';
import { printJson, printPretty } from '../json/printer.ts';
import { type Command, type CommandTable, command, type Reply } from './command.ts';
import { type ErrorReply, errorReply, QmpError } from './errors.ts';
import { idOf, type Request, readRequest } from './request.ts';
import { list, object, oneOf, optional, readArguments } from './schema.ts';

/** The way to the client and back. */
export interface Line {
  send(text: string): void;
  /** From here on nothing more comes in until `resume`. */
  pause(): void;
  resume(): void;
  /** Resolves when there is room for more, or nobody there. */
  hasRoom(): Promise<void>;
}

export interface SessionOptions {
  readonly version: Greeting;
  readonly commands: CommandTable;
  /** Has one command at a time run, of all the monitors. */
  readonly inTurn: <T>(run: () => Promise<T>) => Promise<T>;
  /** Replies are laid out for people. */
  readonly pretty?: boolean;
}

export interface Greeting {
  readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
  readonly package: string;
}

export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

/** A client that sends more than this, without waiting for replies, has to wait. */
const MAX_WAITING = 8;

export class QmpSession {
  readonly #line: Line;
  readonly #options: SessionOptions;
  readonly #stream = new MessageStream((message) => this.#take(message));
  readonly #waiting: Message[] = [];
  #negotiated = false;
  #outOfBand = false;
  #working = false;
  #paused = false;
  #closed = false;

  constructor(line: Line, options: SessionOptions) {
    this.#line = line;
    this.#options = options;
    const { version } = options;
    this.#send({ QMP: { version, capabilities: ['oob'] } });
  }

  feed(bytes: Uint8Array): void {
    this.#stream.feed(bytes);
  }

  /** Nothing is sent any more; what is running runs to its end. */
  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
  }

  tell(event: QmpEvent): void {
    if (this.#negotiated) this.#send(event);
  }

  #take(message: Message): void {
    if (this.#closed) return;
    this.#waiting.push(message);
    if (this.#waiting.length >= MAX_WAITING && !this.#paused) {
      this.#paused = true;
      this.#line.pause();
    }
    if (!this.#working) void this.#work();
  }

  async #work(): Promise<void> {
    this.#working = true;
    for (;;) {
      // What a client does not take is not made, either.
      await this.#line.hasRoom();
      const message = this.#waiting.shift();
      if (message === undefined) break;
      await this.#options.inTurn(() => this.#answer(message));
      if (this.#paused && this.#waiting.length < MAX_WAITING) {
        this.#paused = false;
        this.#line.resume();
      }
    }
    this.#working = false;
  }

  async #answer(message: Message): Promise<void> {
    if (this.#closed) return;
    if (message.error !== undefined) {
      this.#send({ error: errorReply(new QmpError(message.error)) });
      return;
    }
    const id = idOf(message.value);
    const reply = await this.#run(message.value);
    this.#send(id === undefined ? reply : { ...reply, id });
  }

  async #run(value: WireValue): Promise<{ return: Reply } | { error: ErrorReply }> {
    try {
      const request = readRequest(value, this.#outOfBand);
      const { arguments: schema, run } = this.#commandOf(request);
      const reply = await run(readArguments(schema, request.given));
      return { return: reply ?? {} };
    } catch (error) {
      return { error: errorReply(error) };
    }
  }

  #commandOf({ command: name, outOfBand }: Request): Command {
    if (name === 'qmp_capabilities' && !outOfBand) return this.#capabilities;
    if (!this.#negotiated) {
      const words = "Expecting capabilities negotiation with 'qmp_capabilities'";
      throw new QmpError(words, 'CommandNotFound');
    }
    const found = this.#options.commands.get(name);
    if (found === undefined) {
      throw new QmpError(`The command ${name} has not been found`, 'CommandNotFound');
    }
    if (outOfBand) throw new QmpError(`The command ${name} does not support OOB`);
    return found;
  }

  get #capabilities(): Command {
    if (this.#negotiated) {
      const words = 'Capabilities negotiation is already complete, command ignored';
      throw new QmpError(words, 'CommandNotFound');
    }
    return command(object({ enable: optional(list(oneOf('oob'))) }), ({ enable = [] }) => {
      this.#negotiated = true;
      this.#outOfBand = enable.includes('oob');
      return undefined;
    });
  }

  #send(value: object): void {
    if (this.#closed) return;
    const print = this.#options.pretty ? printPretty : printJson;
    this.#line.send(`${print(asEntered(value)).replaceAll('\n', '\r\n')}\r\n`);
  }
}

/** Without members that are there in name alone; those entered last come first, as in QEMU's tables. */
function asEntered(value: unknown): WireValue {
  if (typeof value !== 'object' || value === null) return value as WireValue;
  if (Array.isArray(value)) return value.map(asEntered);
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, each]) => each !== undefined)
      .reverse()
      .map(([key, each]) => [key, asEntered(each)]),
  );
}
