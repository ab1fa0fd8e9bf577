// The manual page says what the command does now, and formatters read it without complaint.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { currentPage, PAGE } from '../../scripts/make-man.ts';
import { run } from '../support/qemu.ts';

test('it is up to date: else `npm run man`', async () => {
  expect(readFileSync(PAGE, 'utf8')).toBe(await currentPage());
});

test('man and mandoc, where they are, find nothing wrong with it', async () => {
  const tries: readonly (readonly string[])[] = [
    ['man', '--warnings=all', '-l', PAGE],
    ['mandoc', '-Tlint', '-Wwarning', PAGE],
  ];
  for (const [program = '', ...args] of tries) {
    const outcome = await run(program, args, { env: { ...process.env, MANPAGER: 'cat' } }).catch(
      () => undefined,
    );
    if (outcome === undefined) console.warn(`not tried: ${program} is missing`);
    else expect([program, outcome.code, outcome.stderr]).toEqual([program, 0, '']);
  }
});
