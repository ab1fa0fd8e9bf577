// Commits whose layers let go of each part as soon as base holds it durably: in windows so small that
// there are several.

import { type CommitCase, commitOperation } from './commit-case.ts';
import type { LayerSpec } from './layers.ts';

/** Enough in each for several windows. */
const layer = (name: string, more: Partial<LayerSpec> = {}): LayerSpec => ({
  name,
  writes: 6,
  ...more,
});
const THREE = [layer('/base'), layer('/mid'), layer('/top')];

const CASES: readonly CommitCase[] = [
  { name: 'default', layers: [layer('/base'), layer('/top')] },
  {
    name: 'slow emptying (snapshot)',
    layers: [layer('/base'), layer('/top', { clusterSize: 1024, snapshot: true })],
  },
  {
    name: 'version 2, zeros over a backing file',
    layers: [
      layer('/deep'),
      layer('/base', { version: 2 }),
      layer('/top', { version: 2, clusterSize: 1024 }),
    ],
  },
  { name: 'raw base', layers: [layer('/base.raw'), layer('/top')] },
  {
    name: 'base grows',
    layers: [layer('/deep', { sectors: 150 }), layer('/base', { sectors: 50 }), layer('/top')],
  },
  {
    name: 'extended L2 entries',
    layers: [
      layer('/deep.raw'),
      layer('/base', { extendedL2: true, clusterSize: 16384, sectors: 400 }),
      layer('/top', { extendedL2: true, clusterSize: 16384, sectors: 400, longest: 80 }),
    ],
  },
  {
    name: 'compressed clusters on both sides',
    layers: [
      layer('/base', { clusterSize: 2048, compressed: true }),
      layer('/top', { clusterSize: 4096, compressed: true }),
    ],
  },
  {
    name: 'external data files',
    layers: [layer('/base', { dataFile: 'base.data' }), layer('/top', { dataFile: 'top.data' })],
  },
  {
    name: 'bitmaps that record',
    layers: [layer('/base', { bitmaps: ['a'] }), layer('/top', { bitmaps: ['a', 'b'] })],
    request: { bitmaps: true },
  },
  {
    name: 'lazy refcounts, not closed',
    layers: [
      layer('/base', { lazyRefcounts: true, dirty: true }),
      layer('/top', { lazyRefcounts: true }),
    ],
  },
  { name: '-b, 3 files', layers: THREE, request: { base: '/base' } },
  {
    name: '-b --relink --delete, 3 files',
    layers: THREE,
    request: { base: '/base', relink: true, delete: true },
  },
  {
    name: '--top --delete, 4 files',
    layers: [layer('/base'), layer('/mid'), layer('/mid2'), layer('/top')],
    request: { base: '/base', top: '/mid2', delete: true },
  },
];

export const COMMIT_RECLAIM = CASES.map((each) =>
  commitOperation({
    ...each,
    name: `commit --reclaim: ${each.name}`,
    request: { ...each.request, reclaim: true, reclaimWindow: 6000 },
  }),
);
