// An NBD server that listens: connections in, each served by itself; a clean stop.

import { createServer, type Server, type Socket } from 'node:net';
import { Connection } from '../nbd/connection.ts';
import type { NbdExport, NbdExports } from '../nbd/export.ts';
import type { StartTls } from '../nbd/negotiation.ts';
import type { OnMistake } from '../nbd/transmission.ts';
import { listenAt, type SocketAddress } from './listening.ts';

export interface NbdServerOptions {
  readonly address: SocketAddress;
  readonly exports: NbdExports;
  /** Required of clients, where it is given. */
  readonly startTls?: StartTls;
  /** Clients at once; more wait to be accepted. 0: any number. Default 0. */
  readonly maxConnections?: number;
  /** Hears of mistakes of ours, which cost a client an answer or its connection. */
  readonly onMistake?: OnMistake;
  /** Clients wait until then. Default: they don't. */
  readonly ready?: Promise<void>;
  /** For a client to choose an export, in milliseconds; then it is dropped. Default 10000. */
  readonly handshakeTimeout?: number;
}

/** What is being served must have ended by then, in milliseconds: clients that do not read are dropped. */
const STOPPING = 5000;

export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #server: Server;
  readonly #clients = new Map<Connection, Promise<void>>();
  /** Accepted, and not served before another one leaves. */
  readonly #waiting: Socket[] = [];
  #stopped: Promise<void> | undefined;
  #ready = false;

  private constructor(options: NbdServerOptions) {
    this.#options = options;
    // Half-closed: what was asked for before the end is answered.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /** Rejects with `invalid` or `io` where it can't listen there. */
  static async start(options: NbdServerOptions): Promise<NbdServer> {
    const server = new NbdServer(options);
    await listenAt(server.#server, options.address);
    return server;
  }

  /** Where it listens, with the port that it got. */
  get address(): SocketAddress {
    const { address } = this.#options;
    const bound = this.#server.address();
    if (address.type === 'unix' || bound === null || typeof bound === 'string') return address;
    return { ...address, port: bound.port };
  }

  /** Clients that are being served, with an export or not yet. */
  get connections(): number {
    return this.#clients.size;
  }

  /** Clients of an export. */
  clientsOf(served: NbdExport): number {
    return this.#connectionsOf(served).length;
  }

  /** Drops the clients of an export, once what they asked for is done. */
  async disconnect(served: NbdExport): Promise<void> {
    await this.#end(this.#connectionsOf(served));
  }

  /** Listens no longer, and ends all connections once what they asked for is done. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    await this.#end([...this.#clients.keys()]);
    await closed;
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined);
    const { maxConnections = 0, ready } = this.#options;
    if (ready !== undefined && !this.#ready) {
      void ready.then(() => {
        this.#ready = true;
        this.#accept(socket);
      });
      return;
    }
    if (this.#stopped !== undefined) {
      socket.destroy();
      return;
    }
    if (maxConnections > 0 && this.#clients.size >= maxConnections) {
      this.#waiting.push(socket);
      return;
    }
    this.#serve(socket);
  }

  #serve(socket: Socket): void {
    socket.setNoDelay(true);
    const { exports, startTls, onMistake, handshakeTimeout = 10_000 } = this.#options;
    const connection = new Connection(socket, exports, {
      ...(startTls && { startTls }),
      ...(onMistake && { onMistake }),
    });
    const timer = setTimeout(() => {
      if (connection.served === undefined) connection.destroy();
    }, handshakeTimeout);
    const served = connection.serve().finally(() => {
      clearTimeout(timer);
      this.#clients.delete(connection);
      this.#next();
    });
    this.#clients.set(connection, served);
  }

  #next(): void {
    for (;;) {
      const socket = this.#stopped === undefined ? this.#waiting.shift() : undefined;
      if (socket === undefined) return;
      if (socket.destroyed) continue;
      this.#serve(socket);
      return;
    }
  }

  #connectionsOf(served: NbdExport): readonly Connection[] {
    return [...this.#clients.keys()].filter((connection) => connection.served === served);
  }

  async #end(connections: readonly Connection[]): Promise<void> {
    for (const connection of connections) connection.stop();
    const timer = setTimeout(() => {
      for (const connection of connections) connection.destroy();
    }, STOPPING);
    await Promise.all(connections.map((connection) => this.#clients.get(connection)));
    clearTimeout(timer);
  }
}
