import { COMMIT_IDENTICAL } from '../support/crash-operations/commit-identical.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(COMMIT_IDENTICAL, { states: 12, seeds: [1] });
