import { REBASES } from '../support/crash-operations/rebase.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(REBASES, { states: 12, seeds: [1] });
