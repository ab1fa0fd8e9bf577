// The rows of the matrix: chains, and the ratios (our time / qemu-img's) that we want to reach.

import { GIB, KIB, MIB, TIB } from './chain-maker.mjs';

/** Plain data, where extents can be shared, and where bytes have to be copied. */
const PLAIN = { xfs: 0.1, btrfs: 0.1, ext4: { warm: 0.9, cold: 1.1 } };
const onExt4 = (warm) => ({ ext4: { warm } });
const MEMORY = 130 * MIB;

/**
 * `make(chain, scale)` returns what to commit: { top, base, baseFormat?, args? }. `targets` name the
 * file systems on which a row is measured; `data` is what its layers hold together, in bytes.
 * `startup`: our time counts against qemu-img's and the bare start of Node.js together; `repeat`
 * tells how often a run starts the command, where once is too short.
 */
export const ROWS = [
  {
    name: 'sequential',
    about: '2 GiB in sequence',
    targets: PLAIN,
    memory: MEMORY,
    data: 2 * GIB,
    async make(chain, scale) {
      const length = whole(2 * GIB * scale, MIB);
      await chain.create('base.qcow2', 4 * GIB);
      await chain.overlay('top.qcow2', 'base.qcow2');
      await chain.fill('top.qcow2', 0, length);
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'scattered',
    about: '1 GiB of single 64 KiB clusters, written in random order',
    targets: PLAIN,
    memory: MEMORY,
    data: GIB,
    async make(chain, scale) {
      const count = whole(16384 * scale);
      await chain.create('base.qcow2', 8 * GIB);
      await chain.overlay('top.qcow2', 'base.qcow2');
      await chain.scatter('top.qcow2', { size: count * 512 * KIB, unit: 64 * KIB, count });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'four-overlays',
    about: 'four overlays that overlap, 384 MiB each, into the fifth',
    targets: PLAIN,
    memory: MEMORY,
    data: 1.5 * GIB,
    async make(chain, scale) {
      const count = whole(6144 * scale);
      await chain.create('base.qcow2', 8 * GIB);
      let below = 'base.qcow2';
      for (let i = 1; i <= 4; i++) {
        await chain.overlay(`sn${i}.qcow2`, below);
        below = `sn${i}.qcow2`;
        // Of each four clusters three are written.
        const size = Math.ceil((count * 4) / 3) * 64 * KIB;
        await chain.scatter(below, { size, unit: 64 * KIB, count, seed: i });
      }
      return { top: below, base: 'base.qcow2', args: ['-b', 'base.qcow2'] };
    },
  },
  {
    name: 'raw-base',
    about: '1 GiB of scattered clusters into a raw file',
    targets: PLAIN,
    memory: MEMORY,
    data: GIB,
    async make(chain, scale) {
      const count = whole(16384 * scale);
      await chain.qemuImg('create', '-q', '-f', 'raw', 'base.raw', String(8 * GIB));
      await chain.overlay('top.qcow2', 'base.raw', { backingFormat: 'raw' });
      await chain.scatter('top.qcow2', { size: count * 128 * KIB, unit: 64 * KIB, count });
      return { top: 'top.qcow2', base: 'base.raw', baseFormat: 'raw' };
    },
  },
  {
    name: 'clusters-2M',
    about: '1 GiB of scattered clusters of 2 MiB',
    targets: PLAIN,
    memory: MEMORY,
    data: GIB,
    async make(chain, scale) {
      const count = whole(512 * scale);
      const options = 'cluster_size=2M';
      await chain.create('base.qcow2', 32 * GIB, { options });
      await chain.overlay('top.qcow2', 'base.qcow2', { options });
      await chain.scatter('top.qcow2', { size: 32 * GIB, unit: 2 * MIB, count });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'sparse-1T',
    about: 'single clusters all over 1 TiB',
    targets: onExt4(0.15),
    memory: MEMORY,
    data: 600 * MIB,
    async make(chain, scale) {
      await chain.create('base.qcow2', TIB);
      await chain.overlay('top.qcow2', 'base.qcow2');
      const count = whole(3200 * scale);
      await chain.scatter('top.qcow2', { size: TIB, unit: 64 * KIB, count });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'clusters-4K',
    about: '256 MiB of scattered clusters of 4 KiB',
    targets: onExt4(0.2),
    memory: MEMORY,
    data: 256 * MIB,
    async make(chain, scale) {
      const count = whole(65536 * scale);
      const options = 'cluster_size=4k';
      await chain.create('base.qcow2', 2 * GIB, { options });
      await chain.overlay('top.qcow2', 'base.qcow2', { options });
      await chain.scatter('top.qcow2', { size: count * 32 * KIB, unit: 4 * KIB, count });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'zeros',
    about: '256 GiB of zero clusters over 256 MiB of old data, 128 MiB of new',
    targets: onExt4(0.5),
    memory: MEMORY,
    data: 512 * MIB,
    async make(chain, scale) {
      const size = whole(256 * scale) * GIB;
      const unit = 64 * KIB;
      await chain.create('base.qcow2', size);
      await chain.scatter('base.qcow2', { size, unit, count: whole(4096 * scale), seed: 2 });
      await chain.overlay('top.qcow2', 'base.qcow2');
      await chain.zero('top.qcow2', 0, size);
      await chain.scatter('top.qcow2', { size, unit, count: whole(2048 * scale) });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  ...Object.entries({ zlib: 0.65, zstd: 1 }).map(([type, target]) => ({
    name: type,
    about: `768 MiB in a top compressed by ${type}`,
    targets: onExt4(target),
    memory: 200 * MIB,
    data: 768 * MIB,
    async make(chain, scale) {
      const size = 4 * GIB;
      await chain.create('base.qcow2', size);
      const length = whole(768 * MIB * scale, MIB);
      await chain.compressed('top.qcow2', 'base.qcow2', { size, length, type });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  })),
  {
    name: 'tiny',
    about: 'one cluster over a disk of 100 GiB: what starting costs',
    targets: onExt4(1.5),
    memory: MEMORY,
    data: MIB,
    startup: true,
    repeat: 5,
    async make(chain) {
      await chain.create('base.qcow2', 100 * GIB);
      await chain.overlay('top.qcow2', 'base.qcow2');
      await chain.io('top.qcow2', ['write -P 1 1M 64k']);
      return { top: 'top.qcow2', base: 'base.qcow2', args: ['-d'] };
    },
  },
  {
    name: 'huge-16T',
    about: 'a disk of 16 TiB, zero clusters in one of 100 L2 tables: what memory takes',
    targets: { ext4: { warm: undefined } },
    memory: MEMORY,
    data: 64 * MIB,
    async make(chain) {
      await chain.create('base.qcow2', 16 * TIB);
      await chain.overlay('top.qcow2', 'base.qcow2');
      // An L2 table maps 512 MiB.
      for (let at = 0; at < 16 * TIB; at += 100 * GIB) await chain.zero('top.qcow2', at, GIB);
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
];

/** Bytes, or things, that there are at least one of. */
export function whole(count, unit = 1) {
  return Math.max(1, Math.round(count / unit)) * unit;
}
