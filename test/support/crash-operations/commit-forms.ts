// Commits into the backing file, by the kinds of images on both sides.

import { commitOperation } from './commit-case.ts';

export const COMMIT_FORMS = [
  commitOperation({
    name: 'commit: emptied in the fast form',
    layers: [{ name: '/base' }, { name: '/top' }],
  }),
  commitOperation({
    name: 'commit: emptied in the fast form, tables in their place',
    layers: [
      { name: '/base', clusterSize: 4096 },
      { name: '/top', clusterSize: 4096, writes: 2 },
    ],
  }),
  commitOperation({
    name: 'commit: emptied in the fast form, tables that were moved',
    layers: [{ name: '/base' }, { name: '/top', sectors: 4300, grownFrom: 96 }],
  }),
  commitOperation({
    name: 'commit: emptied in the slow form (snapshot)',
    layers: [{ name: '/base' }, { name: '/top', clusterSize: 1024, snapshot: true }],
  }),
  commitOperation({
    name: 'commit: version 2 on both sides, zeros over a backing file',
    layers: [
      { name: '/deep' },
      { name: '/base', version: 2 },
      { name: '/top', version: 2, clusterSize: 1024 },
    ],
  }),
  commitOperation({
    name: 'commit: -d',
    layers: [{ name: '/base' }, { name: '/top' }],
    request: { drop: true },
  }),
  commitOperation({
    name: 'commit: base grows, over a longer backing file',
    layers: [
      { name: '/deep', sectors: 150 },
      { name: '/base', sectors: 50 },
      { name: '/top', sectors: 130 },
    ],
  }),
  commitOperation({
    name: 'commit: version 2 base grows',
    layers: [
      { name: '/base', sectors: 30, version: 2 },
      { name: '/top', sectors: 150 },
    ],
  }),
  commitOperation({
    name: 'commit: refcount table and L1 table move (refcounts of 64 bits)',
    layers: [
      { name: '/base', refcountBits: 64, sectors: 20 },
      { name: '/top', refcountBits: 64, sectors: 700, writes: 9 },
    ],
  }),
  commitOperation({
    name: 'commit: raw base',
    layers: [{ name: '/base.raw' }, { name: '/top' }],
  }),
  commitOperation({
    name: 'commit: raw base grows',
    layers: [
      { name: '/base.raw', sectors: 40 },
      { name: '/top', sectors: 90 },
    ],
  }),
  commitOperation({
    name: 'commit: snapshot in base',
    layers: [{ name: '/base', snapshot: true }, { name: '/top' }],
  }),
  commitOperation({
    name: 'commit: extended L2 entries',
    layers: [
      { name: '/deep.raw' },
      { name: '/base', extendedL2: true, clusterSize: 16384, snapshot: true },
      { name: '/top', extendedL2: true, clusterSize: 16384 },
    ],
  }),
  commitOperation({
    name: 'commit: external data files',
    layers: [
      { name: '/base', dataFile: 'base.data' },
      { name: '/top', dataFile: 'top.data' },
    ],
  }),
  commitOperation({
    name: 'commit: external data file, raw',
    layers: [{ name: '/base', dataFile: 'base.data', dataFileRaw: true }, { name: '/top' }],
  }),
  commitOperation({
    name: 'commit: lazy refcounts',
    layers: [
      { name: '/base', lazyRefcounts: true },
      { name: '/top', lazyRefcounts: true },
    ],
  }),
  commitOperation({
    name: 'commit: lazy refcounts, base was not closed',
    layers: [{ name: '/base', lazyRefcounts: true, dirty: true }, { name: '/top' }],
  }),
  commitOperation({
    name: 'commit: compressed clusters on both sides',
    layers: [
      { name: '/base', clusterSize: 2048, compressed: true },
      { name: '/top', clusterSize: 4096, compressed: true },
    ],
  }),
  commitOperation({
    name: 'commit: --compress',
    layers: [{ name: '/base', clusterSize: 2048, compressed: true }, { name: '/top' }],
    request: { compress: true },
  }),
];
