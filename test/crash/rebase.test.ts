import { REBASES } from '../support/crash-operations/rebase.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(REBASES, { states: 16, seeds: [1] });
