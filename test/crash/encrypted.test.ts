import { ENCRYPTED } from '../support/crash-operations/encrypted.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(ENCRYPTED, { states: 12, seeds: [1] });
