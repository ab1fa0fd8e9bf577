// Who uses which part of an image how: see test/oracle/lock-table.test.ts for QEMU's side of it.

import { expect, test } from 'vitest';
import { byteLocks } from '../../src/io/locks.ts';
import {
  fillPermissions,
  INVALIDATE,
  type Permissions,
  permissionsFor,
  TRUNCATE,
} from '../../src/io/permissions.ts';

const held = ({ use, share }: Permissions) => byteLocks(use, share).hold;

test.each([
  ['image', 'describe', [201, 203]],
  ['image', 'read', [100, 201, 203]],
  ['image', 'write', [100, 101, 103, 201, 203]],
  ['raw', 'describe', []],
  ['raw', 'read', [100]],
  ['raw', 'write', [100, 101, 103]],
  ['data', 'describe', [203]],
  ['data', 'read', [100, 203]],
  ['data', 'write', [100, 101, 103, 203]],
] as const)('%s, %s', (part, access, bytes) => {
  expect(held(permissionsFor(part, access))).toEqual(bytes);
});

test('with force-share nobody is kept out', () => {
  expect(held(permissionsFor('image', 'describe', true))).toEqual([]);
  expect(held(permissionsFor('image', 'read', true))).toEqual([100]);
});

test('the base of a commit, by what it is and whether it grows', () => {
  expect(held(fillPermissions('image', false))).toEqual([100, 101, 103, 201, 203]);
  expect(held(fillPermissions('raw', false))).toEqual([100, 101, 201, 203]);
  expect(held(fillPermissions('raw', true))).toEqual([100, 101, 103, 201, 203]);
});

test('what is made anew, what becomes invalid', () => {
  expect(held(TRUNCATE)).toEqual([101, 103, 203]);
  expect(held(INVALIDATE)).toEqual([100, 200, 201, 203]);
});

test('of two conflicts QEMU tells the one over what it uses', () => {
  const { use, share } = permissionsFor('image', 'write');
  expect(byteLocks(use, share).probe.map(({ byte }) => byte)).toEqual([200, 201, 203, 101, 103]);
});
