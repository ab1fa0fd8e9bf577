import { COMMIT_CLONED } from '../support/crash-operations/commit-cloned.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(COMMIT_CLONED, { states: 16, seeds: [1] });
