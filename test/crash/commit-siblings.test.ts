import { COMMIT_SIBLINGS } from '../support/crash-operations/commit-siblings.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(COMMIT_SIBLINGS, { states: 12, seeds: [1] });
