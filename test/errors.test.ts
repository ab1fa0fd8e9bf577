// The one error class and what surrounds it.

import { describe, expect, test } from 'vitest';
import { assert, errnoOf, ImageError, strerror } from '../src/errors.ts';

describe('an ImageError', () => {
  test('carries its code, its message and nothing that was not given', () => {
    const error = new ImageError('corrupt', 'broken');
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name: 'ImageError', code: 'corrupt', message: 'broken' });
    expect(error.errno).toBeUndefined();
    expect(error.hint).toBeUndefined();
    expect('cause' in error).toBe(false);
  });

  test('carries cause, errno and hint', () => {
    const cause = new Error('why');
    const error = new ImageError('io', 'broken', { cause, errno: 'EIO', hint: 'buy another' });
    expect(error).toMatchObject({ cause, errno: 'EIO', hint: 'buy another' });
  });
});

describe('errnoOf', () => {
  test.each([
    ['a system error', Object.assign(new Error('x'), { code: 'ENOSPC' }), 'ENOSPC'],
    ['an ImageError', new ImageError('no-space', 'x', { errno: 'EDQUOT' }), 'EDQUOT'],
    ['an ImageError without one', new ImageError('corrupt', 'x'), undefined],
    ['an error of Node.js itself', Object.assign(new Error('x'), { code: 'ERR_OOPS' }), undefined],
    ['a plain error', new Error('x'), undefined],
    ['an error whose code is a number', { code: 5 }, undefined],
    ['null', null, undefined],
    ['a word', 'ENOSPC', undefined],
    ['nothing', undefined, undefined],
  ])('of %s', (_what, error, errno) => {
    expect(errnoOf(error)).toBe(errno);
  });
});

test.each([
  ['ENOENT', 'No such file or directory'],
  ['ENOSPC', 'No space left on device'],
  ['EIO', 'Input/output error'],
  ['EWHATEVER', 'EWHATEVER'],
])('%s in words is %j', (errno, words) => {
  expect(strerror(errno)).toBe(words);
});

test('a broken invariant is no ImageError', () => {
  expect(() => assert(true, 'fine')).not.toThrow();
  let thrown: unknown;
  try {
    assert(0, 'not fine');
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(Error);
  expect(thrown).not.toBeInstanceOf(ImageError);
  expect(thrown).toMatchObject({ message: 'internal error: not fine' });
});
