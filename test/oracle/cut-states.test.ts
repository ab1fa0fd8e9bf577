// A few of the states that a power cut leaves, of every operation, judged by QEMU's own check.

import { expect, test } from 'vitest';
import { CRASH_OPERATIONS } from '../support/crash-operations/index.ts';
import { judgeByQemu } from '../support/crash-qemu.ts';
import { tryOperation } from '../support/crash-trial.ts';

/** Of each operation. */
const JUDGED = 1;

test('QEMU finds leaks at most, whatever was cut off', { timeout: 300_000 }, async () => {
  let images = 0;
  for (const operation of CRASH_OPERATIONS) {
    let judged = 0;
    await tryOperation(operation, {
      seed: 77,
      states: 12,
      onState: async (files, random) => {
        if (judged === JUDGED || random(3) > 0) return;
        judged++;
        images += await judgeByQemu(files);
      },
    });
  }
  expect(images).toBeGreaterThan(CRASH_OPERATIONS.length);
});
