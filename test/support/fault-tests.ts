// A share of the operations on a machine that fails: each kind of call in each file of theirs, at calls
// and in ways that a seed picks.

import { expect, test } from 'vitest';
import { randomFrom } from './crash.ts';
import type { CrashOperation } from './crash-operations/scene.ts';
import { tryFaults } from './fault-trial.ts';

export function faultTests(operations: readonly CrashOperation[]): void {
  test.each(operations)('$name', { timeout: 300_000 }, async (operation) => {
    const { calls, faults } = await tryFaults(operation, { seed: 1, most: 1, ways: 1 });
    expect(faults).toBeGreaterThan(1);
    const { files } = await operation.prepare(randomFrom(1));
    const met = new Set([...calls.keys()].map((key) => key.slice(key.indexOf(' ') + 1)));
    // No file is left out, but of those that the header alone names.
    if (!operation.name.includes(': -u')) expect(met).toEqual(new Set(files.keys()));
  });
}
