import { COMMIT_CHAINS } from '../support/crash-operations/commit-chains.ts';
import { COMMIT_ENCRYPTED } from '../support/crash-operations/commit-encrypted.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests([...COMMIT_CHAINS, ...COMMIT_ENCRYPTED], { states: 60 });
