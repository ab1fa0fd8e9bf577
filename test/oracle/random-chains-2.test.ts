// Random chains, part 2 of 4: see test/support/commit-property.ts.

import { test } from 'vitest';
import { runCases } from '../support/commit-property.ts';

test('a commit on a random chain leaves what the model and QEMU say', { timeout: 600_000 }, () =>
  runCases(202, 50, { timeLimit: 500_000 }),
);
