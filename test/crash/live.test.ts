import { LIVE } from '../support/crash-operations/live.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(LIVE, { states: 240, seeds: [1, 2, 3] });
