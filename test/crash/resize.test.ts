import { RESIZES } from '../support/crash-operations/resize.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(RESIZES, { states: 12, seeds: [1] });
