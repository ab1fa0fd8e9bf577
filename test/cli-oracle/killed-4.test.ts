import { killedTests } from '../support/killed.ts';

killedTests(['--relink --delete', '--top']);
