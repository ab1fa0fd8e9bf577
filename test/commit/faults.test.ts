// A machine that fails at the n-th call of each kind in each file, in every way, once and for ever, n
// raised until it is no longer met, while small commits of each form run.

import { expect, test } from 'vitest';
import { COMMIT_SMALL } from '../support/crash-operations/commit-small.ts';
import { tryFaults } from '../support/fault-trial.ts';

test.each(COMMIT_SMALL)('$name', { timeout: 300_000 }, async (operation) => {
  const { calls, faults } = await tryFaults(operation, { seed: 1 });
  const kinds = new Set([...calls.keys()].map((key) => key.split(' ')[0]));
  expect([...kinds]).toEqual(expect.arrayContaining(['open', 'lock', 'read', 'write', 'flush']));
  expect(faults).toBeGreaterThan(100);
});
