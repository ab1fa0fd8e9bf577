// What has to go whatever ends us: programs under way, mounted file systems, files.

const undoings = new Set();
const children = new Set();

/** Has `undo` (synchronous) done at the latest when the process ends; returns what does it now. */
export function atTheLatest(undo) {
  undoings.add(undo);
  return () => {
    if (undoings.delete(undo)) undo();
  };
}

/** A child that leads a process group of its own: nothing that it started may outlive us. */
export function follow(child) {
  children.add(child);
  child.once('close', () => children.delete(child));
}

/** Call once, before anything is made. */
export function cleanUpAtTheEnd() {
  process.on('exit', cleanUp);
  const signals = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };
  for (const [signal, number] of Object.entries(signals)) {
    process.on(signal, () => process.exit(128 + number));
  }
}

function cleanUp() {
  for (const { pid } of children) attempt(() => process.kill(-pid, 'SIGKILL'));
  // The last thing made goes first: files lie in file systems, which lie in files.
  for (const undo of [...undoings].reverse()) attempt(undo);
  undoings.clear();
}

function attempt(action) {
  try {
    action();
  } catch (error) {
    if (error.code !== 'ESRCH') console.error(`Cleaning up: ${error.message}`);
  }
}
