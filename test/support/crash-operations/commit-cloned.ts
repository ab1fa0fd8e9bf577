// Commits on machines whose files can share extents: scattered clusters go down without a copy, many
// at once, and each is there only once base was synced.

import { type CommitCase, commitOperation } from './commit-case.ts';
import type { LayerSpec } from './layers.ts';

/** Scattered: many short writes. */
const layer = (name: string, more: Partial<LayerSpec> = {}): LayerSpec => ({
  name,
  writes: 16,
  longest: 4,
  ...more,
});

const CASES: readonly CommitCase[] = [
  { name: 'default', layers: [layer('/base'), layer('/top')] },
  { name: 'raw base', layers: [layer('/base.raw'), layer('/top')] },
  {
    name: 'raw base grows',
    layers: [layer('/base.raw', { sectors: 40 }), layer('/top', { sectors: 120 })],
  },
  { name: 'base is empty', layers: [layer('/base', { writes: 0 }), layer('/top')] },
  { name: 'snapshot in base', layers: [layer('/base', { snapshot: true }), layer('/top')] },
  {
    name: 'base grows, refcounts of 64 bits',
    layers: [
      layer('/base', { refcountBits: 64, sectors: 20 }),
      layer('/top', { refcountBits: 64, sectors: 400 }),
    ],
  },
  {
    name: 'version 2, clusters of 1 KiB',
    layers: [
      layer('/base', { version: 2, clusterSize: 1024 }),
      layer('/top', { version: 2, clusterSize: 1024 }),
    ],
  },
  {
    name: 'extended L2 entries',
    layers: [
      layer('/base', { extendedL2: true, clusterSize: 16384, sectors: 300 }),
      layer('/top', { clusterSize: 16384, sectors: 300 }),
    ],
  },
  {
    name: 'external data files',
    layers: [layer('/base', { dataFile: 'base.data' }), layer('/top', { dataFile: 'top.data' })],
  },
  {
    name: '--bitmaps',
    layers: [layer('/base', { bitmaps: ['a'] }), layer('/top', { bitmaps: ['a', 'b'] })],
    request: { bitmaps: true },
  },
  {
    name: '-b --relink --delete, raw base',
    layers: [layer('/base.raw'), layer('/mid'), layer('/top')],
    request: { base: '/base.raw', relink: true, delete: true },
  },
  {
    name: '--reclaim',
    layers: [layer('/base'), layer('/top')],
    request: { reclaim: true, reclaimWindow: 6000 },
  },
  {
    name: '--rebase-siblings',
    layers: [layer('/base'), layer('/top'), layer('/one', { on: '/base' })],
    guests: ['/one'],
    request: { rebaseSiblings: true },
  },
];

export const COMMIT_CLONED = CASES.map((each) =>
  commitOperation({ ...each, clones: true, name: `commit, shared extents: ${each.name}` }),
);
