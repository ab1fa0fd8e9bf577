// JSON as QEMU prints it.

import { expect, test } from 'vitest';
import { qemuJson } from '../../src/cli/json.ts';

test('ASCII alone, with large digits; surrogates one by one', () => {
  expect(qemuJson('a"\\ü日😀\u001f\u007f\n')).toBe(
    '"a\\"\\\\\\u00FC\\u65E5\\uD83D\\uDE00\\u001F\\u007F\\n"',
  );
});

test('what looks like an escape in a string is none', () => {
  expect(JSON.parse(qemuJson('\\u00fc'))).toBe('\\u00fc');
});

test('an empty list takes two lines', () => {
  expect(qemuJson({ list: [], more: [1] })).toBe(
    '{\n    "list": [\n    ],\n    "more": [\n        1\n    ]\n}',
  );
});
