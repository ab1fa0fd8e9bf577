// Random chains are committed in part while a guest writes and reads: it sees at any time what it wrote,
// base holds in the end what it must, and all images are sound, whatever stops the job.

import fc from 'fast-check';
import { test } from 'vitest';
import { faultyCase, holdsLive, liveCase } from '../support/live-guest.ts';

const SEED = 2026;

test('the guest notices nothing', { timeout: 60_000 }, () =>
  fc.assert(fc.asyncProperty(liveCase, holdsLive), { seed: SEED, numRuns: 200 }),
);

test('nor does it where base fails', { timeout: 60_000 }, () =>
  fc.assert(fc.asyncProperty(faultyCase, holdsLive), { seed: SEED, numRuns: 200 }),
);
