import { BITMAP_EDITS, COMMIT_BITMAPS } from '../support/crash-operations/bitmaps.ts';
import { crashTests } from '../support/crash-tests.ts';

crashTests([...BITMAP_EDITS, ...COMMIT_BITMAPS], { states: 80 });
