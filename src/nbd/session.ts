// Requests to one export, across the connections that it takes: a connection that is lost is made
// anew, and what a server may have forgotten is sent again.

import { ImageError } from '../errors.ts';
import { type ClientRequest, ConnectionLost, type NbdClient } from './client.ts';
import type { ExportDetails } from './client-handshake.ts';
import type { Descriptor } from './requests.ts';
import { NBD_CMD_FLUSH, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from './spec.ts';
import { Unflushed } from './unflushed.ts';

export interface SessionOptions {
  /** Makes a connection and agrees with the server on the export. */
  readonly connect: () => Promise<NbdClient>;
  /** How long requests wait for a lost connection to come back, in milliseconds; 0: they fail. */
  readonly reconnectDelay: number;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** Between two attempts, in milliseconds. */
const PAUSE = 200;

const lost = (cause: unknown) =>
  new ImageError('io', 'the connection to the server is gone', { cause, errno: 'EIO' });

export class NbdSession {
  readonly #options: SessionOptions;
  readonly #unflushed: Unflushed | undefined;
  #client: NbdClient;
  #reconnecting: Promise<NbdClient> | undefined;
  #lostAt: number | undefined;
  /** Changes that were acknowledged so far; and how many of them are durable. */
  #acknowledged = 0;
  #durable = 0;
  /** What was acknowledged may be lost, and no flush can make it durable any more. */
  #mayHaveLost = false;
  #closed = false;

  constructor(client: NbdClient, options: SessionOptions) {
    this.#client = client;
    this.#options = options;
    this.#unflushed = options.reconnectDelay > 0 ? new Unflushed() : undefined;
  }

  get details(): ExportDetails {
    return this.#client.details;
  }

  /** Rejects with `RequestFailed`, or with an `ImageError` where the server can't be reached. */
  async request(request: ClientRequest): Promise<readonly Descriptor[]> {
    for (;;) {
      const client = this.#client.isLost ? await this.#reconnected() : this.#client;
      try {
        const found = await client.request(request);
        if (request.type === NBD_CMD_WRITE || request.type === NBD_CMD_WRITE_ZEROES) {
          await this.#note(request);
        }
        return found;
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
        this.#noteLoss();
        if (this.#options.reconnectDelay === 0 || this.#closed) throw lost(error);
      }
    }
  }

  /** Durable when it resolves. */
  async flush(): Promise<void> {
    const count = this.#acknowledged;
    const kept = this.#unflushed?.end ?? 0;
    if (!this.#mayHaveLost) {
      await this.request({ type: NBD_CMD_FLUSH, flags: 0, offset: 0, length: 0 });
    }
    if (this.#mayHaveLost) {
      const message = 'the connection was lost before what was written was durable';
      throw new ImageError('io', message, { errno: 'EIO' });
    }
    this.#durable = Math.max(this.#durable, count);
    this.#unflushed?.forget(kept);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#client.close();
  }

  async #note(request: ClientRequest): Promise<void> {
    this.#acknowledged++;
    this.#unflushed?.add(request);
    if (this.#unflushed?.isFull) await this.flush();
  }

  #noteLoss(): void {
    this.#lostAt ??= this.#options.now();
    const isKept = this.#unflushed !== undefined;
    if (!isKept && this.#acknowledged > this.#durable) this.#mayHaveLost = true;
  }

  #reconnected(): Promise<NbdClient> {
    if (this.#closed) return Promise.reject(lost(undefined));
    this.#noteLoss();
    this.#reconnecting ??= this.#reconnect().finally(() => {
      this.#reconnecting = undefined;
    });
    return this.#reconnecting;
  }

  /** Tries at least once, until the time is over. */
  async #reconnect(): Promise<NbdClient> {
    const { connect, now, sleep, reconnectDelay } = this.#options;
    const end = (this.#lostAt ?? now()) + reconnectDelay;
    for (;;) {
      try {
        const client = await connect();
        await this.#takeOver(client);
        return client;
      } catch (error) {
        if (this.#closed || error instanceof ChangedExport || now() >= end) throw lost(error);
        await sleep(PAUSE);
      }
    }
  }

  async #takeOver(client: NbdClient): Promise<void> {
    try {
      const [before, after] = [this.#client.details, client.details];
      if (before.size !== after.size || before.minimumBlock !== after.minimumBlock) {
        throw new ChangedExport('the server has another export now');
      }
      for (const request of this.#unflushed?.requests ?? []) await client.request(request);
    } catch (error) {
      await client.close();
      throw error;
    }
    this.#client = client;
    this.#lostAt = undefined;
  }
}

class ChangedExport extends Error {}
