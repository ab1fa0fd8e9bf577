// What happens, told to all who listen.

export type EventData = Readonly<Record<string, unknown>>;

export interface DaemonEvent {
  readonly event: string;
  readonly data?: EventData;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

export class Events {
  readonly #listeners = new Set<(event: DaemonEvent) => void>();

  emit(event: string, data?: EventData): void {
    const told = { timestamp: timestamp(), event, ...(data !== undefined && { data }) };
    for (const listener of this.#listeners) listener(told);
  }

  /** Until the function that it returns is called. */
  listen(listener: (event: DaemonEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Since 1970. */
function timestamp(): DaemonEvent['timestamp'] {
  const milliseconds = performance.timeOrigin + performance.now();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, microseconds: Math.floor((milliseconds - seconds * 1000) * 1000) };
}
