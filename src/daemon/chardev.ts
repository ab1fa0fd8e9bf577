// Character devices: ways in for one client at a time, over sockets or the standard streams.

import { createServer, type Server } from 'node:net';
import { Duplex } from 'node:stream';
import { connectTo, listenAt, type SocketAddress } from './listening.ts';

export type ChardevSettings =
  | { readonly kind: 'null' }
  | { readonly kind: 'stdio' }
  | {
      readonly kind: 'socket';
      readonly address: SocketAddress;
      readonly server: boolean;
      /** A server is not ready before its first client has come. */
      readonly wait: boolean;
    };

/** Told of each client, one after the other. */
export type OnClient = (stream: Duplex) => void;

export class Chardev {
  readonly #settings: ChardevSettings;
  #onClient: OnClient | undefined;
  #taken = false;
  #server: Server | undefined;
  #current: Duplex | undefined;
  /** Came while another one was there. */
  readonly #waiting: Duplex[] = [];
  #closed = false;

  private constructor(settings: ChardevSettings) {
    this.#settings = settings;
  }

  /** Resolves when it listens, or is connected; with `wait`, when the first client is there. */
  static async open(settings: ChardevSettings): Promise<Chardev> {
    const chardev = new Chardev(settings);
    await chardev.#open();
    return chardev;
  }

  /** Somebody serves its clients, or is going to. */
  get taken(): boolean {
    return this.#taken;
  }

  take(): void {
    this.#taken = true;
  }

  serve(onClient: OnClient): void {
    this.#onClient = onClient;
    this.#next();
  }

  /** What was sent leaves first, for as long as the client reads. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const stream of this.#waiting.splice(0)) stream.destroy();
    const current = this.#current;
    const closed = this.#server && new Promise((resolve) => this.#server?.close(resolve));
    if (current !== undefined) await ended(current);
    await closed;
  }

  async #open(): Promise<void> {
    const settings = this.#settings;
    if (settings.kind === 'stdio') {
      this.#arrived(Duplex.from({ readable: process.stdin, writable: process.stdout }));
    } else if (settings.kind === 'socket' && settings.server) {
      await this.#listen(settings.address, settings.wait);
    } else if (settings.kind === 'socket') {
      this.#arrived(await connectTo(settings.address));
    }
  }

  async #listen(address: SocketAddress, wait: boolean): Promise<void> {
    let came = (): void => undefined;
    const first = new Promise<void>((resolve) => {
      came = resolve;
    });
    this.#server = createServer((socket) => {
      this.#arrived(socket);
      came();
    });
    await listenAt(this.#server, address);
    if (wait) await first;
  }

  #arrived(stream: Duplex): void {
    stream.on('error', () => undefined);
    if (this.#waiting.length >= MAX_WAITING) stream.destroy();
    else this.#waiting.push(stream);
    this.#next();
  }

  #next(): void {
    if (this.#onClient === undefined || this.#current !== undefined || this.#closed) return;
    const stream = this.#waiting.shift();
    if (stream === undefined) return;
    this.#current = stream;
    stream.once('close', () => {
      this.#current = undefined;
      this.#next();
    });
    if (stream.destroyed) stream.emit('close');
    else this.#onClient(stream);
  }
}

/** Clients that wait for the one before them to leave. */
const MAX_WAITING = 64;
/** For what was sent last, in milliseconds. */
const ENDING = 1000;

async function ended(stream: Duplex): Promise<void> {
  if (stream.destroyed) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ENDING);
    stream.end(() => {
      clearTimeout(timer);
      resolve();
    });
  });
  stream.destroy();
}
