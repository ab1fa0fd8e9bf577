// Random chains whose layers let go of what base holds: see test/support/commit-property.ts.

import { test } from 'vitest';
import { runCases } from '../support/commit-property.ts';
import { reclaimingCommitter } from '../support/committers.ts';

test('reclaiming changes nothing of what a commit leaves', { timeout: 600_000 }, () =>
  runCases(505, 30, { committer: reclaimingCommitter, timeLimit: 500_000 }),
);
