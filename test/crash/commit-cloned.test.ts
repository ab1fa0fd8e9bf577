import { COMMIT_CLONED } from '../support/crash-operations/commit-cloned.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(COMMIT_CLONED, { states: 12, seeds: [1] });
