// koffi, the optional package through which C functions are called; only here is it named. Loaded
// when first needed; off Linux, or where it is not installed, there is none.

export type Koffi = typeof import('koffi')['default'];

let loaded: Promise<Koffi | null> | undefined;

/** Null where C functions can't be reached: every caller has another way. */
export function loadKoffi(): Promise<Koffi | null> {
  loaded ??= tryLoad();
  return loaded;
}

/**
 * koffi's entry loads much of Node.js (worker threads, tracing) to wrap calls that it deprecates, a
 * fifth of what a short command takes. Where its native part can be found by itself, that will do.
 */
async function tryLoad(): Promise<Koffi | null> {
  if (process.platform !== 'linux' || process.env['QIMG_TS_NO_SYSCALLS'] === '1') return null;
  if (process.arch === 'x64') {
    try {
      // @ts-expect-error It has no types of its own: it is what koffi's entry hands on.
      return (await import('@koromix/koffi-linux-x64/linux_x64/koffi.node')).default as Koffi;
    } catch {
      // Other C libraries; package managers that keep packages apart and show us koffi alone.
    }
  }
  try {
    return (await import('koffi')).default;
  } catch {
    return null; // Not installed, or not for this machine.
  }
}
