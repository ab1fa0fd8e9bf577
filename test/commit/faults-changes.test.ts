// A machine that fails while guests write, and while images are changed in other ways than by commits.

import { BITMAP_EDITS } from '../support/crash-operations/bitmaps.ts';
import { ENCRYPTED } from '../support/crash-operations/encrypted.ts';
import { GUEST } from '../support/crash-operations/guest.ts';
import { REBASES } from '../support/crash-operations/rebase.ts';
import { REPAIRS } from '../support/crash-operations/repair.ts';
import { RESIZES } from '../support/crash-operations/resize.ts';
import { SNAPSHOTS } from '../support/crash-operations/snapshots.ts';
import { faultTests } from '../support/fault-tests.ts';

/** Opening LUKS takes its time. */
const QUICK = ENCRYPTED.filter(({ name }) => !name.includes('LUKS'));

faultTests([...GUEST, ...SNAPSHOTS, ...BITMAP_EDITS, ...REBASES, ...RESIZES, ...REPAIRS, ...QUICK]);
