import { SNAPSHOTS } from '../support/crash-operations/snapshots.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(SNAPSHOTS, { states: 90, seeds: [1, 2, 3] });
