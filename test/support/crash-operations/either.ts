// Operations that are done as a whole or not at all.

import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { type Files, filesIn, hostWith } from '../crash.ts';
import { CODECS, type CrashScene, ensure, openState } from './scene.ts';

export interface Either {
  /** What the operation changes, in words that can be compared. */
  describe(host: MemoryHost): Promise<string>;
  run(host: MemoryHost): Promise<void>;
}

/** A state shows what there was before, or what there is after; then another run brings the latter. */
export async function eitherScene(files: Files, { describe, run }: Either): Promise<CrashScene> {
  const before = await describe(openState(files));
  const ideal = openState(files);
  await run(ideal);
  const after = await describe(ideal);
  const copyOf = (state: MemoryHost) => hostWith(filesIn(state, files.keys()), CODECS);
  return {
    files,
    run,
    async judge(state) {
      const found = await describe(copyOf(state));
      ensure(
        found === before || found === after,
        `neither before nor after:\n${found}\nbefore:\n${before}\nafter:\n${after}`,
      );
    },
    async finish(state) {
      // What can't be done twice is done.
      if ((await describe(copyOf(state))) !== after) await run(state);
      const found = await describe(copyOf(state));
      ensure(found === after, `another run ends with\n${found}\ninstead of\n${after}`);
    },
  };
}
