// Commits over several layers at once.

import { commitOperation } from './commit-case.ts';
import type { LayerSpec } from './layers.ts';

const THREE: readonly LayerSpec[] = [{ name: '/base' }, { name: '/mid' }, { name: '/top' }];
const FIVE: readonly LayerSpec[] = [
  { name: '/base' },
  { name: '/sn1', sectors: 80 },
  { name: '/sn2' },
  { name: '/sn3', sectors: 110 },
  { name: '/top', sectors: 110 },
];
const MIXED: readonly LayerSpec[] = [
  { name: '/base', dataFile: 'base.data', sectors: 80 },
  { name: '/sn1', clusterSize: 2048, compressed: true },
  { name: '/sn2', version: 2 },
  { name: '/sn3', clusterSize: 16384, extendedL2: true, sectors: 110 },
  { name: '/top', clusterSize: 1024, sectors: 110, bitmaps: ['a'] },
];
/** A second guest on the layer that is merged from. */
const OTHER: LayerSpec = { name: '/other', on: '/sn3', sectors: 100 };

export const COMMIT_CHAINS = [
  commitOperation({
    name: 'commit: -b, 3 files',
    layers: THREE,
    request: { base: '/base' },
  }),
  commitOperation({
    name: 'commit: -b --relink, 3 files',
    layers: THREE,
    request: { base: '/base', relink: true },
  }),
  commitOperation({
    name: 'commit: -b --relink --delete, 4 files, version 2 at the top',
    layers: [
      { name: '/base' },
      { name: '/mid' },
      { name: '/mid2', clusterSize: 1024 },
      { name: '/top', version: 2, clusterSize: 4096 },
    ],
    request: { base: '/base', relink: true, delete: true },
  }),
  commitOperation({
    name: 'commit: --top relinks its overlay, 5 files',
    layers: FIVE,
    request: { top: '/sn3', base: '/sn1' },
  }),
  commitOperation({
    name: 'commit: --top --overlay --delete, two guests, 6 files',
    layers: [...FIVE, OTHER],
    filename: '/top',
    guests: ['/other'],
    request: { top: '/sn3', base: '/base', overlays: ['/other'], delete: true },
  }),
  commitOperation({
    name: 'commit: --top --delete, five layers of different forms, 6 files',
    layers: MIXED,
    request: { top: '/sn3', base: '/base', delete: true },
  }),
  commitOperation({
    name: 'commit: -b --relink --delete --bitmaps, five layers of different forms, 6 files',
    layers: MIXED,
    request: { base: '/base', relink: true, delete: true, bitmaps: true },
  }),
  commitOperation({
    name: 'commit: --top into a raw base, 3 files',
    layers: [{ name: '/base.raw' }, { name: '/mid' }, { name: '/top' }],
    request: { top: '/mid', base: '/base.raw' },
  }),
];
