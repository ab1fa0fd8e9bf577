import { killedTests } from '../support/killed.ts';

killedTests(['--compress', '--bitmaps']);
