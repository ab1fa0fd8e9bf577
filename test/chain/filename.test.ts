// How names of backing files resolve.

import { posix } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  baseNameOf,
  directoryOf,
  hostFileOf,
  isAbsolute,
  protocolOf,
  relativeName,
  resolveName,
} from '../../src/chain/filename.ts';

test.each([
  ['nbd:localhost', 'nbd'],
  ['json:{"file":"x/y"}', 'json'],
  ['file:disk', 'file'],
  [':disk', ''],
  ['a:b/c', 'a'],
  ['disk', null],
  ['./a:b', null],
  ['/dev/disk/by-path/pci-0000:00', null],
  ['dir/a:b', null],
  ['', null],
])('the protocol of %j is %j', (name, protocol) => {
  expect(protocolOf(name)).toBe(protocol);
});

test.each([
  ['top', 'base', 'base'],
  ['dir/top', 'base', 'dir/base'],
  ['/a/b/top', '../base', '/a/b/../base'],
  ['/a/top', '/b/base', '/b/base'],
  ['/a/top', 'nbd:base', 'nbd:base'],
  ['/a/top', './x:y', '/a/./x:y'],
  ['/top', 'base', '/base'],
])('seen from %j, %j is %j', (from, name, resolved) => {
  expect(resolveName(from, name)).toBe(resolved);
});

test.each([
  ['disk', '', 'disk'],
  ['/disk', '/', 'disk'],
  ['a/b/disk', 'a/b/', 'disk'],
  ['a/b/', 'a/b/', ''],
])('%j is %j and %j', (name, directory, base) => {
  expect([directoryOf(name), baseNameOf(name)]).toEqual([directory, base]);
  expect(directoryOf(name) + baseNameOf(name)).toBe(name);
});

test('a name is absolute if it begins with a slash', () => {
  expect(['/a', '/', 'a/b', './a', ''].map(isAbsolute)).toEqual([true, true, false, false, false]);
});

test('file: is the one protocol that means a host file', () => {
  expect(hostFileOf('dir/disk')).toBe('dir/disk');
  expect(hostFileOf('file:/dir/disk:1')).toBe('/dir/disk:1');
  const expected = { code: 'unsupported', message: "Unknown protocol 'nbd'" };
  expect(() => hostFileOf('nbd:localhost')).toThrow(expect.objectContaining(expected));
});

test.each([
  ['/a/b', '/a/b/disk', 'disk'],
  ['/a/b', '/a/disk', '../disk'],
  ['/a/b', '/c/d/disk', '../../c/d/disk'],
  ['/', '/disk', 'disk'],
  ['/a', '/a', '../a'],
  ['/a/b', '/a/b/c:d', './c:d'],
  ['/a/b', '/a/b:c/disk', '../b:c/disk'],
  ['/a', '/a/b:c/disk', './b:c/disk'],
])('from %j the shortest name for %j is %j', (directory, target, name) => {
  expect(relativeName(directory, target)).toBe(name);
});

const parts = fc.array(fc.constantFrom('a', 'b', 'c', 'd:e'), { maxLength: 5 });

test('a relative name leads back to its target, and is never taken for a protocol', () => {
  fc.assert(
    fc.property(parts, parts, fc.constantFrom('disk', 'a', 'x:y'), (from, to, file) => {
      const directory = `/${from.join('/')}`;
      const target = ['', ...to, file].join('/');
      const name = relativeName(directory, target);
      expect(protocolOf(name)).toBeNull();
      expect(posix.normalize(resolveName(`${directory}/top`, name))).toBe(target);
    }),
  );
});
