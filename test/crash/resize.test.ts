import { RESIZES } from '../support/crash-operations/resize.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(RESIZES, { states: 16, seeds: [1] });
