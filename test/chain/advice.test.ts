// Words of command lines that are advised.

import { expect, test } from 'vitest';
import { shellWord } from '../../src/chain/advice.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

test.each([
  ['plain.qcow2', 'plain.qcow2'],
  ['a b', "'a b'"],
  ["it's", "'it'\\''s'"],
  ["a\u{1b}]0;\n'\\b", "$'a\\x1b]0;\\n\\'\\\\b'"],
])('%j is one word of the shell, on one line', async (word, expected) => {
  expect(shellWord(word)).toBe(expected);
  expect(await mustIn(tempDir(), 'bash', '-c', `printf %s ${expected}`)).toBe(word);
});
