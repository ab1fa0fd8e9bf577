// Hostile images of one seed: see test/support/hostile/. `npm run fuzz:images` makes any number.

import { test } from 'vitest';
import { expectHarmless } from '../support/hostile/inputs.ts';

test('1,250 images that lie do no harm', () => expectHarmless({ seed: 3, count: 1250 }), 600_000);
