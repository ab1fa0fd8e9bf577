// Work that SIGINT and SIGTERM stop at its next safe point, and SIGUSR1 asks how far it is.

/** The signal that stopped it. */
export class Stopped {
  readonly by: NodeJS.Signals;

  constructor(by: NodeJS.Signals) {
    this.by = by;
  }

  /** As shells tell it. */
  get exitCode(): number {
    return 128 + (this.by === 'SIGINT' ? 2 : 15);
  }
}

/** What `work` resolves to, or what it was stopped by. `onShow`: on SIGUSR1. */
export async function untilStopped<T>(
  work: (signal: AbortSignal) => Promise<T>,
  onShow: () => void,
): Promise<T | Stopped> {
  const stop = new AbortController();
  let stoppedBy: NodeJS.Signals | undefined;
  const onStop = (signal: NodeJS.Signals): void => {
    stoppedBy ??= signal;
    stop.abort(new Error(signal));
  };
  process.on('SIGINT', onStop).on('SIGTERM', onStop).on('SIGUSR1', onShow);
  try {
    return await work(stop.signal);
  } catch (error) {
    if (stoppedBy === undefined || error !== stop.signal.reason) throw error;
    return new Stopped(stoppedBy);
  } finally {
    process.off('SIGINT', onStop).off('SIGTERM', onStop).off('SIGUSR1', onShow);
  }
}
