// Commits that first give siblings of the chain what they would lose: their view is never another one.

import { type CommitCase, commitOperation } from './commit-case.ts';
import type { LayerSpec } from './layers.ts';

const TWO: readonly LayerSpec[] = [{ name: '/base' }, { name: '/top' }];
const THREE: readonly LayerSpec[] = [{ name: '/base' }, { name: '/mid' }, { name: '/top' }];

const CASES: readonly CommitCase[] = [
  {
    name: 'one over base',
    layers: [...TWO, { name: '/one', on: '/base', sectors: 80 }],
    guests: ['/one'],
  },
  {
    name: 'of other forms: version 2, extended L2 entries, an external data file',
    layers: [
      ...TWO,
      { name: '/one', on: '/base', version: 2, clusterSize: 1024 },
      { name: '/two', on: '/base', extendedL2: true, clusterSize: 16384 },
      { name: '/three', on: '/base', dataFile: 'three.data' },
    ],
    guests: ['/one', '/two', '/three'],
  },
  {
    name: 'one over base, one on top of it',
    layers: [...TWO, { name: '/one', on: '/base' }, { name: '/above', on: '/one' }],
    guests: ['/one', '/above'],
  },
  {
    name: '-b --relink, over base and over a layer between',
    layers: [
      ...THREE,
      { name: '/one', on: '/base', sectors: 80 },
      { name: '/two', on: '/mid', clusterSize: 4096, sectors: 120 },
    ],
    guests: ['/one', '/two'],
    request: { base: '/base', relink: true },
  },
  {
    name: 'of a base that grows',
    layers: [
      { name: '/base', sectors: 40 },
      { name: '/top', sectors: 130 },
      { name: '/one', on: '/base', version: 2, sectors: 90 },
    ],
    guests: ['/one'],
  },
  {
    name: 'of a raw base that grows',
    layers: [
      { name: '/base.raw', sectors: 40 },
      { name: '/top', sectors: 100 },
      { name: '/one', on: '/base.raw', sectors: 120 },
    ],
    guests: ['/one'],
  },
  {
    name: 'with bitmaps',
    layers: [...TWO, { name: '/one', on: '/base', bitmaps: ['a', 'still'] }],
    guests: ['/one'],
  },
  {
    name: '--reclaim',
    layers: [...TWO, { name: '/one', on: '/base' }],
    guests: ['/one'],
    request: { reclaim: true, reclaimWindow: 6000 },
  },
];

export const COMMIT_SIBLINGS = CASES.map((each) =>
  commitOperation({
    ...each,
    name: `commit --rebase-siblings: ${each.name}`,
    request: { ...each.request, rebaseSiblings: true },
  }),
);
