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
  #forgotten = 0;

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
    // `slice` of a Buffer would be no copy.
    const kept = payload && { payload: new Uint8Array(payload) };
    this.#requests.push({ ...request, ...kept });
    this.#bytes += costOf(request);
  }

  /** Where the next one goes, counted from the first ever: what `forget` takes. */
  get end(): number {
    return this.#forgotten + this.#requests.length;
  }

  /** Those up to an `end` of before are durable now. */
  forget(end: number): void {
    const count = Math.max(0, end - this.#forgotten);
    for (const request of this.#requests.splice(0, count)) this.#bytes -= costOf(request);
    this.#forgotten += count;
  }
}

function costOf({ payload }: ClientRequest): number {
  return LEAST + (payload?.length ?? 0);
}
