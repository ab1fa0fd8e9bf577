// What a server has acknowledged and not made durable yet: kept, so that it can be sent again to a
// server that was started anew and may have lost it.

import type { ClientRequest } from './client.ts';

/** Beyond this it is time to flush, in bytes. */
const MOST_KEPT = 32 * 1024 * 1024;
/** What a request without data counts. */
const LEAST = 64;

export class Unflushed {
  #requests: ClientRequest[] = [];
  #bytes = 0;

  /** In the order in which they were acknowledged: those under way at once do not overlap. */
  get requests(): readonly ClientRequest[] {
    return this.#requests;
  }

  get isFull(): boolean {
    return this.#bytes > MOST_KEPT;
  }

  /** It was acknowledged; its data is copied. */
  add(request: ClientRequest): void {
    const { payload } = request;
    this.#requests.push(payload === undefined ? request : { ...request, payload: payload.slice() });
    this.#bytes += costOf(request);
  }

  /** The first `count` are durable now. */
  forget(count: number): void {
    for (const request of this.#requests.splice(0, count)) this.#bytes -= costOf(request);
  }
}

function costOf({ payload }: ClientRequest): number {
  return LEAST + (payload?.length ?? 0);
}
