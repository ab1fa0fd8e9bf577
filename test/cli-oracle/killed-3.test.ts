import { killedTests } from '../support/killed.ts';

killedTests(['-b', '-b --relink']);
