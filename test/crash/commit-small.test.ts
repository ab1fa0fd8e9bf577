import { COMMIT_SMALL } from '../support/crash-operations/commit-small.ts';
import { crashTests } from '../support/crash-tests.ts';

// Every state that there can be, of several layouts.
crashTests(COMMIT_SMALL, { states: 2000, seeds: [1, 2, 3] });
