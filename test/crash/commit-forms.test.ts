import { COMMIT_FORMS } from '../support/crash-operations/commit-forms.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests(COMMIT_FORMS, { states: 60 });
