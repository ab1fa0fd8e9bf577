// A storage that a signal stops, for long rows of requests of which nobody needs the rest.

import type { Storage } from '../io/storage.ts';

const REQUESTS: ReadonlySet<string | symbol> = new Set(['read', 'write', 'zero', 'allocate']);

/** The same storage; each request throws the signal's reason once it is aborted. */
export function stoppable(storage: Storage, signal: AbortSignal | undefined): Storage {
  if (signal === undefined) return storage;
  return new Proxy(storage, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      const method: (...args: unknown[]) => unknown = value.bind(target);
      if (!REQUESTS.has(key)) return method;
      return async (...args: unknown[]) => {
        signal.throwIfAborted();
        return await method(...args);
      };
    },
  });
}
