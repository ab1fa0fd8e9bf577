// The plan of a commit in words and as JSON.

import { expect, test } from 'vitest';
import { describePlan, humanBytes, planToJson } from '../../src/cli/plan-output.ts';
import type { CommitPlan } from '../../src/commit/options.ts';

const BARE: CommitPlan = {
  top: 'top',
  base: 'base',
  baseFormat: 'raw',
  merged: ['top'],
  ranges: 3,
  copyBytes: 65536,
  zeroBytes: 0,
  identicalBytes: null,
  growthBytes: 1536,
  peakBytes: 1536,
  baseSize: 1024,
  newBaseSize: 1024,
  rebuildsRefcounts: false,
  reclaims: [],
  empties: null,
  relinks: [],
  invalidates: [],
  deletes: [],
  siblings: [],
  siblingCopies: [],
  unread: [],
  bitmaps: [],
  bitmapsLeft: [],
  refusals: [],
};

const FULL: CommitPlan = {
  ...BARE,
  baseFormat: 'qcow2',
  merged: ['top', 'mid'],
  newBaseSize: 2048,
  rebuildsRefcounts: true,
  growthBytes: 4096,
  peakBytes: 2048,
  reclaims: ['top', 'mid'],
  empties: 'top',
  relinks: [{ overlay: 'over', backingFile: '../base' }],
  invalidates: ['mid', 'low'],
  deletes: ['mid'],
  siblings: ['other'],
  siblingCopies: [{ filename: 'twin', copyBytes: 2048, zeroBytes: 512, growthBytes: 4096 }],
  unread: ['secret'],
  bitmaps: [{ name: 'daily', from: ['top', 'mid'], creates: true }],
  bitmapsLeft: ["bitmap 'weekly' of 'mid' is disabled: it is not merged"],
  refusals: ['too little space'],
};

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1536, '1.5 KiB'],
  [1024 ** 2 * 2.25, '2.25 MiB'],
  [1024 ** 3 / 3, '341.33 MiB'],
  [1024 ** 4, '1 TiB'],
  [1024 ** 6 * 3, '3072 PiB'],
])('%d bytes are %s', (bytes, words) => {
  expect(humanBytes(bytes)).toBe(words);
});

test('a plain plan is told in few lines', () => {
  expect(describePlan(BARE)).toBe(
    'merge: top -> base (raw)\n' +
      'ranges: 3\n' +
      'copy: 64 KiB\n' +
      'zero: 0 B\n' +
      'space needed at most: 1.5 KiB\n' +
      'Nothing was written.\n',
  );
});

test('what comes in addition has a line each', () => {
  expect(describePlan(FULL).split('\n').slice(5)).toEqual([
    'base grows: from 1024 to 2048 bytes',
    'refcounts of base: rebuilt first (it is dirty)',
    'relink: over -> ../base',
    'give back space as it goes: top, mid',
    'empty: top',
    'no longer needed: low',
    'delete: mid',
    'bitmap daily: made from top, mid',
    "bitmap 'weekly' of 'mid' is disabled: it is not merged",
    'siblings that would see other data: other',
    'first into twin: copy 2 KiB, zero 512 B, space needed at most 4 KiB',
    'could not be read, and may be siblings: secret',
    'refused: too little space',
    'Nothing was written.',
    '',
  ]);
  expect(describePlan(FULL)).toContain('merge: top -> mid -> base (qcow2)\n');
  expect(describePlan(FULL)).toContain('\nspace needed at most: 4 KiB, at a time 2 KiB\n');
});

test.each([
  ['plain', BARE],
  ['full', FULL],
])('the JSON of a %s plan holds all of it, in hyphens', (_what, plan) => {
  const text = planToJson(plan);
  expect(text.endsWith('}\n')).toBe(true);
  const camelCase = (key: string) => key.replace(/-(.)/g, (_, letter) => letter.toUpperCase());
  const restored: unknown = JSON.parse(text, (_key, value: unknown) =>
    typeof value !== 'object' || value === null || Array.isArray(value)
      ? value
      : Object.fromEntries(Object.entries(value).map(([key, each]) => [camelCase(key), each])),
  );
  expect(restored).toEqual(plan);
});
