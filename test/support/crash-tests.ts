// A share of the operations as tests of a file: few states of each, always the same ones.

import { describe, expect, test } from 'vitest';
import type { CrashOperation } from './crash-operations/scene.ts';
import { tryOperation } from './crash-trial.ts';

/** About `states` different states for each operation, over several layouts. */
export function crashTests(
  operations: readonly CrashOperation[],
  { states, seeds = [1, 2] }: { readonly states: number; readonly seeds?: readonly number[] },
): void {
  describe('after a power cut: sound, the view as it was, another run completes it', () => {
    test.each(operations)('$name', { timeout: 300_000 }, async (operation) => {
      for (const seed of seeds) {
        const tally = await tryOperation(operation, { seed, states: states / seeds.length });
        expect(tally.states).toBeGreaterThan(0);
      }
    });
  });
}
