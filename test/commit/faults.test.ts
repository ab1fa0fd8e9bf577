// A machine that fails at the n-th call of each kind, once and for ever, n raised until it is no longer
// met, while small commits of each form run.

import { expect, test } from 'vitest';
import { COMMIT_SMALL } from '../support/crash-operations/commit-small.ts';
import { tryFaults } from '../support/fault-trial.ts';
import { FAULTS, type FaultKind } from '../support/faulty-host.ts';

/** A full disk fails these; where it allocates late, a flush too. */
const NEED_ROOM = new Set<FaultKind>(['write', 'zero', 'copy', 'resize', 'flush']);
const KINDS = Object.keys(FAULTS) as FaultKind[];

test.each(COMMIT_SMALL)('$name', { timeout: 300_000 }, async (operation) => {
  const met = new Set<FaultKind>();
  for (const kind of KINDS) {
    for (const forever of [false, true]) {
      const calls = await tryFaults(operation, kind, { errno: 'EIO', forever });
      if (calls > 0) met.add(kind);
    }
    if (NEED_ROOM.has(kind)) await tryFaults(operation, kind, { errno: 'ENOSPC', forever: true });
  }
  expect([...met]).toEqual(expect.arrayContaining(['open', 'lock', 'read', 'write', 'flush']));
});
