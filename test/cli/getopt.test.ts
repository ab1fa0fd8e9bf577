// Words of a command line, taken apart as getopt_long does it.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { getopt, type OptionSpec, UsageError } from '../../src/cli/getopt.ts';

const SPECS: readonly OptionSpec[] = [
  { short: 'p', long: 'progress', takesValue: false },
  { short: 'q', long: 'quiet', takesValue: false },
  { short: 'f', long: 'format', takesValue: true },
  { short: 'r', long: 'rate-limit', takesValue: true },
  { short: undefined, long: 'relink', takesValue: false },
  { short: undefined, long: 'rel', takesValue: false },
  { short: 'h', long: 'help', takesValue: false },
];

/** `progress`, `format=raw`; operands after a slash. */
function words(...argv: readonly string[]): string {
  const { options, operands } = getopt(argv, SPECS, 'commit', 'help');
  const named = options.map(({ long, value }) => (value === undefined ? long : `${long}=${value}`));
  return [...named, '/', ...operands].join(' ');
}

test.each<[string, readonly string[], string]>([
  ['nothing', [], '/'],
  ['short options', ['-p', '-q'], 'progress quiet /'],
  ['short options in one word', ['-pq'], 'progress quiet /'],
  ['a value in the next word', ['-f', 'raw'], 'format=raw /'],
  ['a value in the same word', ['-fraw'], 'format=raw /'],
  ['a value at the end of a cluster', ['-pqf', 'raw'], 'progress quiet format=raw /'],
  ['a value that looks like options', ['-fpq'], 'format=pq /'],
  ['a value that begins with a dash', ['-f', '-q'], 'format=-q /'],
  ['two dashes as a value', ['-f', '--'], 'format=-- /'],
  ['an equals sign after a short option', ['-f=raw'], 'format==raw /'],
  ['long options', ['--progress', '--format', 'raw'], 'progress format=raw /'],
  ['a long option with its value', ['--format=raw'], 'format=raw /'],
  ['an empty value', ['--format='], 'format= /'],
  ['an empty word as a value', ['--format', ''], 'format= /'],
  ['a value with an equals sign', ['--format=a=b'], 'format=a=b /'],
  ['a long option cut short', ['--pro', '--form=raw'], 'progress format=raw /'],
  ['a name that is the beginning of another', ['--rel', '--reli'], 'rel relink /'],
  ['operands between options', ['a', '-p', 'b', '-f', 'raw', 'c'], 'progress format=raw / a b c'],
  ['a single dash', ['-', '-p'], 'progress / -'],
  ['an empty operand', ['', '-p'], 'progress / '],
  ['two dashes end the options', ['-p', '--', '-q', '--', 'a'], 'progress / -q -- a'],
  ['the same option again', ['-f', 'a', '-fb'], 'format=a format=b /'],
])('%s', (_what, argv, expected) => {
  expect(words(...argv)).toBe(expected);
});

test('nothing after the option that ends it is looked at', () => {
  expect(words('-p', '--help', '--nonsense', 'a')).toBe('progress help /');
  expect(words('-ph', '-Z')).toBe('progress help /');
});

describe('wrong usage', () => {
  test.each<[string, readonly string[], string]>([
    ['an unknown letter', ['-Z'], "unrecognized option '-Z'"],
    ['an unknown letter at the end of a word', ['-pZ'], "unrecognized option '-pZ'"],
    ['an unknown letter inside the first word', ['-Zp'], "unrecognized option 'commit'"],
    ['an unknown letter inside a later word', ['-q', '-Zp'], "unrecognized option '-q'"],
    ['an unknown letter behind an operand', ['a', '-q', '-Zp'], "unrecognized option 'a'"],
    ['an unknown name', ['--nope'], "unrecognized option '--nope'"],
    ['an unknown name with a value', ['--nope=1'], "unrecognized option '--nope=1'"],
    ['a beginning of several names', ['--re'], "unrecognized option '--re'"],
    ['a value for an option without one', ['--quiet=1'], "unrecognized option '--quiet=1'"],
    ['no value', ['-f'], "missing argument for option '-f'"],
    ['no value at the end of a cluster', ['-pf'], "missing argument for option '-pf'"],
    ['no value for a long option', ['a', '--format'], "missing argument for option '--format'"],
  ])('%s is told', (_what, argv, message) => {
    expect(() => words(...argv)).toThrow(new UsageError(message));
  });
});

test('options are found wherever they stand among operands', () => {
  const operand = fc.stringMatching(/^[a-z][a-z0-9]*$/);
  const option = fc.constantFrom(['-p'], ['-f', 'x'], ['--quiet'], ['--rate-limit=5']);
  const items = fc.array(fc.oneof(operand, option), { maxLength: 8 });
  fc.assert(
    fc.property(items, (list) => {
      const { options, operands } = getopt(list.flat(), SPECS, 'commit');
      expect(operands).toEqual(list.filter((item) => typeof item === 'string'));
      expect(options).toHaveLength(list.filter((item) => typeof item !== 'string').length);
    }),
  );
});
