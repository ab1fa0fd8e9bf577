import { killedTests } from '../support/killed.ts';

killedTests(['--top --delete']);
