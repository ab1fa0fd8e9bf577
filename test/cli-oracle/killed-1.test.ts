import { killedTests } from '../support/killed.ts';

killedTests(['default', '-d']);
