// How the cost grows: each curve doubles one thing and keeps the others. A point is measured as a
// row of the matrix is.

import { GIB, KIB, MIB, TIB } from './chain-maker.mjs';
import { whole } from './rows.mjs';

export const CURVES = [
  {
    name: 'data',
    title: 'More data, in sequence',
    axis: 'data in the top',
    unit: bytesInWords,
    points: (scale) => [1, 2, 4, 8, 16].map((n) => whole(n * GIB * scale, MIB)),
    data: (point) => point,
    async make(chain, length) {
      await chain.create('base.qcow2', 32 * GIB);
      await chain.overlay('top.qcow2', 'base.qcow2');
      await chain.fill('top.qcow2', 0, length);
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'depth',
    title: 'The same data, in more layers',
    axis: 'layers above base',
    unit: String,
    points: () => [1, 2, 4, 8, 16, 32, 64],
    data: (_, scale) => 512 * MIB * scale,
    async make(chain, depth, scale) {
      await chain.create('base.qcow2', 8 * GIB);
      let below = 'base.qcow2';
      const count = whole((8192 * scale) / depth);
      for (let i = 1; i <= depth; i++) {
        await chain.overlay(`sn${i}.qcow2`, below);
        below = `sn${i}.qcow2`;
        const size = whole(8192 * scale) * 128 * KIB;
        await chain.scatter(below, { size, unit: 64 * KIB, count, seed: i });
      }
      return { top: below, base: 'base.qcow2', args: ['-b', 'base.qcow2'] };
    },
  },
  {
    name: 'size',
    title: 'The same data, on a larger disk',
    axis: 'virtual size',
    unit: bytesInWords,
    points: () => Array.from({ length: 15 }, (_, i) => GIB * 2 ** i),
    data: (_, scale) => 128 * MIB * scale,
    async make(chain, size, scale) {
      await chain.create('base.qcow2', size);
      await chain.overlay('top.qcow2', 'base.qcow2');
      const count = whole(2048 * scale);
      await chain.scatter('top.qcow2', { size: GIB, unit: 64 * KIB, count });
      // The end is in use, too.
      await chain.io('top.qcow2', [`write -P 1 ${size - 64 * KIB} 64k`]);
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
];

/** 1073741824: "1 GiB". */
function bytesInWords(bytes) {
  for (const [unit, word] of [
    [TIB, 'TiB'],
    [GIB, 'GiB'],
    [MIB, 'MiB'],
  ]) {
    if (bytes >= unit) return `${Number((bytes / unit).toFixed(1))} ${word}`;
  }
  return `${bytes} bytes`;
}
