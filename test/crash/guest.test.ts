import { GUEST } from '../support/crash-operations/guest.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(GUEST, { states: 120, seeds: [1, 2, 3, 4] });
