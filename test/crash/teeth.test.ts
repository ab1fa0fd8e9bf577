// The proof has teeth: an engine with one step of its order left out or moved is found out.

import { describe, expect, test } from 'vitest';
import {
  BITMAP_ORDER,
  CHECKPOINT,
  CLONES,
  COMMIT_ORDER,
  DATA_FILES,
  DIRTY_ORDER,
  EMPTYING,
  IDENTICAL_ORDER,
  LIVE_ORDER,
  REBASE_ORDER,
  RECLAIMING,
  RELINKING,
  REPAIR_ORDER,
  RERUN_ORDER,
  SHRINKING,
  SIBLING_ORDER,
  SIZE_ORDER,
  SLOW_EMPTYING,
  SNAPSHOT_ORDER,
} from '../support/crash-mutants.ts';
import { type Mutant, mutated } from '../support/mutants.ts';

/** With the operations that look there. */
const ORDERS: readonly (readonly [string, readonly Mutant[], RegExp])[] = [
  ['a checkpoint', CHECKPOINT, /^guest: refcounts of 64/],
  ['a commit', COMMIT_ORDER, /^small commit: (default|-b --relink|--top)/],
  ['a live commit', LIVE_ORDER, /^live commit: (a layer|version 2)/],
  ['emptying', EMPTYING, /^commit: .* tables that were moved$/],
  ['bitmaps', BITMAP_ORDER, /^bitmap: (recording|add)/],
  ['snapshots', SNAPSHOT_ORDER, /^snapshot: delete$/],
  ['a rebase', REBASE_ORDER, /^rebase: onto another image$/],
  ['siblings', SIBLING_ORDER, /^commit --rebase-siblings: one over base$/],
  [
    'leaving out what is there',
    IDENTICAL_ORDER,
    /^commit --skip-identical.*(killed: (default|raw base|--top.*)|below it)$/,
  ],
  ['another size', SIZE_ORDER, /^resize: grow over a longer backing file/],
  ['a smaller disk', SHRINKING, /^resize: shrink, (many|within)/],
  ['a repair', REPAIR_ORDER, /^repair: -r all, (data in|not closed|a bitmap)/],
  ['clones', CLONES, /^commit, shared extents: (default|raw base|snapshot in base|--reclaim)$/],
  [
    'what another run needs',
    RERUN_ORDER,
    /^(small )?commit: (-b --relink --delete$|--top (--delete|--overlay))/,
  ],
  ['relinking', RELINKING, /^rebase: onto a longer name/],
  ['data files', DATA_FILES, /^(small )?commit: external data files?/],
  ['reclaiming', RECLAIMING, /^commit --reclaim: (default|-b, 3 files)$/],
  ['emptying table by table', SLOW_EMPTYING, /^commit: emptied in the slow form/],
  ['a dirty image', DIRTY_ORDER, /^commit: lazy refcounts, base was not closed$/],
];

/** What is found first; undefined where all states are right. */
async function findingOf(mutant: Mutant, operations: RegExp): Promise<string | undefined> {
  const { CRASH_OPERATIONS, tryOperation } = await mutated(mutant);
  const tried = CRASH_OPERATIONS.filter(({ name }) => operations.test(name));
  for (const seed of [1, 2, 3]) {
    for (const operation of tried) {
      try {
        await tryOperation(operation, { seed, states: 60 });
      } catch (error) {
        const found = findingIn(error);
        if (found === undefined) throw error;
        return found;
      }
    }
  }
  return undefined;
}

/** A state that is wrong; or the engine met tables that contradict each other by itself. */
function findingIn(error: unknown): string | undefined {
  const { name, message } = error as Error;
  if (name === 'CrashFailure') return message;
  // What closing said in addition is of no interest.
  const { code } = ((error as { error?: unknown }).error ?? error) as { code?: string };
  return code === 'corrupt' || code === 'invalid' ? `met by the engine: ${message}` : undefined;
}

describe.each(ORDERS)('the order of %s', (_what, mutants, operations) => {
  test.each(mutants)('$name: found out', { timeout: 300_000 }, async (mutant) => {
    expect(await findingOf(mutant, operations)).toMatch(/cut after event|met by the engine/);
  });
});
