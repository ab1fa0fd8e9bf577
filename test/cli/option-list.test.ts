// Lists of options. Three commas: one that belongs to the value (written as two), and one that ends it.

import { expect, test } from 'vitest';
import { parseCreateOptions } from '../../src/cli/create-options.ts';
import { parseImageOpts } from '../../src/cli/image-opts.ts';
import { asksForHelp, isOptionList, namedValues } from '../../src/cli/option-list.ts';

test('a value of -o may end with a comma', () => {
  const fail = (message: string) => new Error(message) as never;
  const options = parseCreateOptions('qcow2', 'backing_file=x,,,backing_fmt=raw', fail);
  expect(Object.fromEntries(options)).toEqual({ backing_file: 'x,', backing_fmt: 'raw' });
});

test('a value of --image-opts may end with a comma', () => {
  const { options } = parseImageOpts('file.filename=x,,,driver=qcow2');
  expect(options.get('file.filename')).toBe('x,');
  expect(options.get('driver')).toBe('qcow2');
});

test('a name ends at a comma, doubled or not; a value at a single one', () => {
  expect(namedValues('a,,b=1,,2,noc')).toEqual([
    { name: 'a', value: 'on', flag: true },
    { name: '', value: 'on', flag: true },
    { name: 'b', value: '1,2', flag: false },
    { name: 'c', value: 'off', flag: true },
  ]);
});

test.each(['a=1', 'a=1,,', 'a,b'])('%j is a list', (text) => {
  expect(isOptionList(text)).toBe(true);
});

test.each(['', ',', ',a', 'a,', 'a=1,,,'])('%j is none', (text) => {
  expect(isOptionList(text)).toBe(false);
});

test('help is asked for by a name alone', () => {
  expect(['help', '?', 'size=1,help', 'help,,'].map(asksForHelp)).toEqual([true, true, true, true]);
  expect(['help=on', 'size=help', 'helping'].some(asksForHelp)).toBe(false);
});
