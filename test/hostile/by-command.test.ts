// Hostile images of one seed through the command itself. `npm run fuzz:images -- --cli` runs any number.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { judgeByCommand } from '../support/hostile/by-command.ts';
import { inputSource } from '../support/hostile/inputs.ts';
import { tempDir } from '../support/temp.ts';

test('10 images that lie do the command no harm', async () => {
  const source = await inputSource();
  const directory = join(tempDir(), 'input');
  for (let n = 0; n < 10; n++) {
    const input = source(2, n);
    expect([input.about, await judgeByCommand(input, directory)]).toEqual([input.about, []]);
  }
}, 120_000);
