// Every operation that is tried by power cuts. A new family is a file beside this one, listed here.

import { BITMAP_EDITS, COMMIT_BITMAPS } from './bitmaps.ts';
import { COMMIT_CHAINS } from './commit-chains.ts';
import { COMMIT_CLONED } from './commit-cloned.ts';
import { COMMIT_FORMS } from './commit-forms.ts';
import { COMMIT_IDENTICAL } from './commit-identical.ts';
import { COMMIT_RECLAIM } from './commit-reclaim.ts';
import { COMMIT_SIBLINGS } from './commit-siblings.ts';
import { COMMIT_SMALL } from './commit-small.ts';
import { ENCRYPTED } from './encrypted.ts';
import { GUEST } from './guest.ts';
import { LIVE } from './live.ts';
import { REBASES } from './rebase.ts';
import { REPAIRS } from './repair.ts';
import { RESIZES } from './resize.ts';
import type { CrashOperation } from './scene.ts';
import { SNAPSHOTS } from './snapshots.ts';

export const CRASH_OPERATIONS: readonly CrashOperation[] = [
  ...GUEST,
  ...SNAPSHOTS,
  ...BITMAP_EDITS,
  ...COMMIT_FORMS,
  ...COMMIT_BITMAPS,
  ...COMMIT_CHAINS,
  ...COMMIT_SMALL,
  ...COMMIT_RECLAIM,
  ...COMMIT_IDENTICAL,
  ...COMMIT_SIBLINGS,
  ...COMMIT_CLONED,
  ...LIVE,
  ...REBASES,
  ...RESIZES,
  ...REPAIRS,
  ...ENCRYPTED,
];
