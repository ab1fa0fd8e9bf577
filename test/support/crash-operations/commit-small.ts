// Commits of a few sectors: so small that every state there can be is looked at.

import { type CommitCase, commitOperation } from './commit-case.ts';
import type { LayerSpec } from './layers.ts';

const layer = (name: string, more: Partial<LayerSpec> = {}): LayerSpec => ({
  name,
  sectors: 8,
  writes: 1,
  longest: 2,
  ...more,
});

const CASES: readonly CommitCase[] = [
  { name: 'default', layers: [layer('/base'), layer('/top')] },
  { name: 'version 2', layers: [layer('/base', { version: 2 }), layer('/top', { version: 2 })] },
  { name: '-d', layers: [layer('/base'), layer('/top')], request: { drop: true } },
  { name: 'raw base', layers: [layer('/base.raw'), layer('/top')] },
  { name: 'base grows', layers: [layer('/base'), layer('/top', { sectors: 9 })] },
  { name: '--compress', layers: [layer('/base'), layer('/top')], request: { compress: true } },
  {
    name: '-b',
    layers: [layer('/base'), layer('/mid'), layer('/top')],
    request: { base: '/base' },
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
  { name: 'slow emptying', layers: [layer('/base'), layer('/top', { snapshot: true, writes: 2 })] },
  {
    name: '-b --relink --delete',
    layers: [layer('/base'), layer('/mid'), layer('/top')],
    request: { base: '/base', relink: true, delete: true },
  },
  {
    name: '--top --delete',
    layers: [layer('/base'), layer('/mid'), layer('/mid2'), layer('/top')],
    request: { base: '/base', top: '/mid2', delete: true },
  },
];

export const COMMIT_SMALL = CASES.map((each) =>
  commitOperation({ ...each, name: `small commit: ${each.name}` }),
);
