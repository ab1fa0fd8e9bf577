// Commands that are killed, or told to stop, in the middle: as soon as so many changes of files were
// seen, which is some instant of their work on any machine.

import { watch } from 'node:fs';
import { type Ended, start } from './limited.ts';

/** Seeded shares of the work. */
export function instants(seed: number, count: number): readonly number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  });
}

/** Counts what the file system tells of a directory: some thing after each write. */
function countChanges(dir: string, heard: (count: number) => void): () => void {
  let count = 0;
  const watcher = watch(dir, () => heard(++count));
  return () => watcher.close();
}

/** How many changes the whole work makes there. */
export async function changesOf(dir: string, work: () => Promise<unknown>): Promise<number> {
  let total = 0;
  const stop = countChanges(dir, (count) => {
    total = count;
  });
  await work();
  stop();
  return total;
}

/** Runs our command and sends it the signal as soon as that many changes were seen. */
export async function stopAfter(
  dir: string,
  args: readonly string[],
  changes: number,
  signal: NodeJS.Signals = 'SIGKILL',
): Promise<Ended> {
  const running = start(args, dir);
  const stop = countChanges(dir, (count) => {
    if (count >= changes) running.child.kill(signal);
  });
  const ended = await running.ended;
  stop();
  return ended;
}

/** Two at a time: most of the work is done by processes of their own. */
export async function inLanes<T>(
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = [...items];
  const lane = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await work(item);
  };
  await Promise.all([lane(), lane()]);
}
