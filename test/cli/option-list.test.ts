// Three commas: one that belongs to the value (written as two), and one that ends it.

import { expect, test } from 'vitest';
import { parseCreateOptions } from '../../src/cli/create-options.ts';
import { namedImage } from '../../src/cli/options.ts';

test('a value of -o may end with a comma', () => {
  const fail = (message: string) => new Error(message) as never;
  const options = parseCreateOptions('qcow2', ['backing_file=x,,,backing_fmt=raw'], fail);
  expect(Object.fromEntries(options)).toEqual({ backing_file: 'x,', backing_fmt: 'raw' });
});

test('a value of --image-opts may end with a comma', () => {
  const named = namedImage('file.filename=x,,,driver=qcow2', { imageOpts: true });
  expect(named).toMatchObject({ filename: 'x,', format: 'qcow2' });
});
