// Monitors: who speaks QMP or the human language on which character device. A client that does not
// read what it is sent gets no more commands run, and in the end is dropped: nobody else waits.

import type { Duplex } from 'node:stream';
import { HmpSession, type HmpSessionOptions } from '../hmp/session.ts';
import { QmpSession, type SessionOptions } from '../qmp/session.ts';
import type { Chardev } from './chardev.ts';
import type { Events } from './events.ts';

/** Bytes that are sent and not taken: from here on nothing more is read. */
const SLOW = 64 * 1024;
/** From here on the client is taken for dead. */
const DEAD = 16 * 1024 * 1024;

/** Speaks QMP with the clients of `chardev`. */
export function serveQmp(chardev: Chardev, options: SessionOptions, events: Events): void {
  chardev.serve((stream) => {
    const flow = new Flow(stream);
    const session = new QmpSession(
      {
        send: (text) => flow.send(text),
        hasRoom: () => flow.hasRoom(),
        pause: () => flow.hold('client'),
        resume: () => flow.release('client'),
      },
      options,
    );
    const stop = events.listen((event) => session.tell(event));
    flow.start(
      (bytes) => session.feed(bytes),
      () => {
        stop();
        session.close();
      },
    );
  });
}

/** Speaks with people. */
export function serveHmp(chardev: Chardev, options: HmpSessionOptions): void {
  chardev.serve((stream) => {
    const flow = new Flow(stream);
    const session = new HmpSession(
      {
        send: (bytes) => flow.send(bytes),
        hasRoom: () => flow.hasRoom(),
        pause: () => flow.hold('client'),
        resume: () => flow.release('client'),
      },
      options,
    );
    flow.start(
      (bytes) => session.feed(bytes),
      () => session.close(),
    );
  });
}

type Reason = 'client' | 'slow';

/** A stream that is read for as long as nobody has a reason not to. */
class Flow {
  readonly #stream: Duplex;
  readonly #reasons = new Set<Reason>();

  constructor(stream: Duplex) {
    this.#stream = stream;
  }

  start(onBytes: (bytes: Uint8Array) => void, onClose: () => void): void {
    const stream = this.#stream;
    stream.on('drain', () => this.release('slow'));
    stream.once('close', onClose);
    stream.on('end', () => stream.end());
    stream.on('data', (bytes: Uint8Array) => onBytes(bytes));
    if (this.#reasons.size > 0) stream.pause();
  }

  send(data: string | Uint8Array): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.writableEnded) return;
    stream.write(data);
    if (stream.writableLength > DEAD) stream.destroy();
    else if (stream.writableLength > SLOW) this.hold('slow');
  }

  async hasRoom(): Promise<void> {
    const stream = this.#stream;
    if (!this.#reasons.has('slow') || stream.destroyed) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        stream.off('drain', done).off('close', done);
        resolve();
      };
      stream.on('drain', done).on('close', done);
    });
  }

  hold(reason: Reason): void {
    this.#reasons.add(reason);
    this.#stream.pause();
  }

  release(reason: Reason): void {
    this.#reasons.delete(reason);
    if (this.#reasons.size === 0) this.#stream.resume();
  }
}
