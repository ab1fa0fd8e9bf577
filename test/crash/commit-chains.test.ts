import { COMMIT_CHAINS } from '../support/crash-operations/commit-chains.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(COMMIT_CHAINS, { states: 60 });
