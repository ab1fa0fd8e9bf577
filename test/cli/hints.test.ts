// What is said to do next, and what was meant.

import { expect, test } from 'vitest';
import { hintFor } from '../../src/cli/hints.ts';
import { reportError } from '../../src/cli/program.ts';
import { closest, editDistance } from '../../src/cli/suggest.ts';
import { ImageError } from '../../src/errors.ts';
import { qimg } from '../support/cli.ts';
import { keptOutput } from '../support/output.ts';
import { tempDir } from '../support/temp.ts';

test.each([
  ['', '', 0],
  ['info', 'info', 0],
  ['inof', 'info', 1],
  ['comit', 'commit', 1],
  ['abc', '', 3],
])('from %j to %j: %i steps', (a, b, steps) => {
  expect([editDistance(a, b), editDistance(b, a)]).toEqual([steps, steps]);
});

test('what is far from everything was not meant', () => {
  expect(closest('COMMIT', ['commit', 'create'])).toBe('commit');
  expect(closest('frobnicate', ['commit', 'create'])).toBeUndefined();
  expect(closest('', ['info'])).toBeUndefined();
});

test.each<[string, ImageError, RegExp]>([
  ['a driver', new ImageError('invalid', "Unknown driver 'qcow'"), /Did you mean 'qcow2'/],
  [
    'a layer',
    new ImageError('not-found', "Did not find 'x' in the backing chain of 'a b'"),
    /qimg-ts chain 'a b'/,
  ],
  ['permissions', new ImageError('io', "Could not open 'x'", { errno: 'EACCES' }), /permissions/],
  ['an option', new ImageError('invalid', "x: Invalid parameter 'clustersize'"), /'cluster_size'/],
  [
    'a key',
    new ImageError('invalid', "Parameter 'encrypt.key-secret' is required for cipher"),
    /--object secret,id=KEY/,
  ],
  ['a lock', new ImageError('busy', "Could not open 'x'"), /-U/],
])('%s', (_, error, words) => {
  expect(hintFor(error)).toMatch(words);
});

test('as qemu-img nothing is added', () => {
  const output = keptOutput(true);
  reportError(new ImageError('invalid', "Unknown driver 'qcow'"), output);
  expect(output.stderr).toBe("qemu-img: Unknown driver 'qcow'\n");
});

test.each<[readonly string[], string]>([
  [['comit', 'x'], "qimg-ts: Command not found: comit\nDid you mean 'commit'?\nTry "],
  [
    ['commit', '--relnk', 'x'],
    "qimg-ts: unrecognized option '--relnk'\nDid you mean '--relink'?\nTry ",
  ],
  [['commit', '--zzz', 'x'], "qimg-ts: unrecognized option '--zzz'\nTry "],
  [
    ['create', '-f', 'qcow', 'x', '1M'],
    "qimg-ts: x: Unknown file format 'qcow'\nDid you mean 'qcow2'?\n",
  ],
  [['create', '-f', 'qcow2', 'x'], 'qimg-ts: x: Image creation needs a size parameter\nGive one'],
])('%j', async (args, expected) => {
  const { code, stderr } = await qimg(args, tempDir());
  expect(code).toBe(1);
  expect(stderr.startsWith(expected), stderr).toBe(true);
});
