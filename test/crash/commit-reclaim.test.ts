import { COMMIT_RECLAIM } from '../support/crash-operations/commit-reclaim.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(COMMIT_RECLAIM, { states: 12, seeds: [1] });
