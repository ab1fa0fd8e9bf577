// A machine that fails while commits of each form run, over up to six files.

import { COMMIT_BITMAPS } from '../support/crash-operations/bitmaps.ts';
import { COMMIT_CHAINS } from '../support/crash-operations/commit-chains.ts';
import { COMMIT_CLONED } from '../support/crash-operations/commit-cloned.ts';
import { COMMIT_FORMS } from '../support/crash-operations/commit-forms.ts';
import { COMMIT_RECLAIM } from '../support/crash-operations/commit-reclaim.ts';
import { COMMIT_SIBLINGS } from '../support/crash-operations/commit-siblings.ts';
import { faultTests } from '../support/fault-tests.ts';

faultTests([
  ...COMMIT_FORMS,
  ...COMMIT_BITMAPS,
  ...COMMIT_CHAINS,
  ...COMMIT_RECLAIM,
  ...COMMIT_SIBLINGS,
  ...COMMIT_CLONED,
]);
