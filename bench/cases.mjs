// The chains that bench/commit.mjs measures. Each case makes its chain in a folder by QEMU's tools,
// from fixed seeds, so that any two runs measure the same; `scale` is 1, or more for real sizes.

import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

/**
 * `make(chain, scale)` returns what to commit: { top, base, baseFormat?, args? }. `large` is the
 * scale of --large; `repeat` tells how often a run starts the command, where one is too short.
 */
export const CASES = [
  {
    name: 'sequential',
    about: 'one run of data, 64 KiB clusters',
    large: 16,
    make(chain, scale) {
      chain.create('base.qcow2', GIB * scale);
      chain.fromRaw('top.qcow2', 'base.qcow2', GIB * scale, 192 * MIB * scale);
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'scattered',
    about: 'single 64 KiB clusters, written in random order',
    large: 8,
    make(chain, scale) {
      chain.create('base.qcow2', GIB * scale);
      chain.overlay('top.qcow2', 'base.qcow2');
      chain.scatter('top.qcow2', { size: GIB * scale, unit: 64 * KIB, count: 2048 * scale });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'four-overlays',
    about: 'four overlays that overlap, into the fifth',
    large: 8,
    make(chain, scale) {
      chain.create('base.qcow2', GIB * scale);
      let below = 'base.qcow2';
      for (let i = 1; i <= 4; i++) {
        chain.overlay(`sn${i}.qcow2`, below);
        below = `sn${i}.qcow2`;
        const size = 128 * MIB * scale;
        chain.scatter(below, { size, unit: 64 * KIB, count: 768 * scale, seed: i });
      }
      return { top: below, base: 'base.qcow2', args: ['-b', 'base.qcow2'] };
    },
  },
  {
    name: 'raw-base',
    about: 'into a raw file',
    large: 8,
    make(chain, scale) {
      chain.qemuImg('create', '-q', '-f', 'raw', 'base.raw', String(GIB * scale));
      chain.overlay('top.qcow2', 'base.raw', { backingFormat: 'raw' });
      chain.scatter('top.qcow2', { size: 256 * MIB * scale, unit: 64 * KIB, count: 2048 * scale });
      return { top: 'top.qcow2', base: 'base.raw', baseFormat: 'raw' };
    },
  },
  {
    name: 'clusters-2M',
    about: 'clusters of 2 MiB',
    large: 8,
    make(chain, scale) {
      const options = 'cluster_size=2M';
      chain.create('base.qcow2', 4 * GIB * scale, { options });
      chain.overlay('top.qcow2', 'base.qcow2', { options });
      const size = 4 * GIB * scale;
      chain.scatter('top.qcow2', { size, unit: 2 * MIB, count: 64 * scale });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'clusters-4K',
    about: 'clusters of 4 KiB, scattered',
    large: 8,
    make(chain, scale) {
      const options = 'cluster_size=4k';
      chain.create('base.qcow2', 256 * MIB * scale, { options });
      chain.overlay('top.qcow2', 'base.qcow2', { options });
      const size = 256 * MIB * scale;
      chain.scatter('top.qcow2', { size, unit: 4 * KIB, count: 8192 * scale });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'sparse-1T',
    about: 'a few clusters all over 1 TiB',
    large: 8,
    make(chain, scale) {
      chain.create('base.qcow2', TIB);
      chain.overlay('top.qcow2', 'base.qcow2');
      chain.scatter('top.qcow2', { size: TIB, unit: 64 * KIB, count: 400 * scale });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  {
    name: 'zeros',
    about: 'zero clusters over old data, hardly any new data',
    large: 8,
    make(chain, scale) {
      const size = 32 * GIB * scale;
      chain.create('base.qcow2', size);
      chain.scatter('base.qcow2', { size, unit: 64 * KIB, count: 512 * scale, seed: 2 });
      chain.overlay('top.qcow2', 'base.qcow2');
      chain.io('top.qcow2', [...zeroCommands(size)]);
      chain.scatter('top.qcow2', { size, unit: 64 * KIB, count: 256 * scale });
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  },
  ...['zlib', 'zstd'].map((type) => ({
    name: type,
    about: `a top compressed by ${type}`,
    large: 8,
    make(chain, scale) {
      chain.create('base.qcow2', GIB * scale);
      const options = `compression_type=${type}`;
      const length = 96 * MIB * scale;
      chain.fromRaw('top.qcow2', 'base.qcow2', GIB * scale, length, ['-c', '-o', options]);
      return { top: 'top.qcow2', base: 'base.qcow2' };
    },
  })),
  {
    name: 'tiny',
    about: 'one cluster: what starting costs (time of one start)',
    large: 1,
    repeat: 5,
    make(chain) {
      chain.create('base.qcow2', 64 * MIB);
      chain.overlay('top.qcow2', 'base.qcow2');
      chain.io('top.qcow2', ['write -P 1 1M 64k']);
      return { top: 'top.qcow2', base: 'base.qcow2', args: ['-d'] };
    },
  },
];

/** Images of one folder. */
export class ChainMaker {
  #dir;

  constructor(dir) {
    this.#dir = dir;
  }

  qemuImg(...args) {
    execFileSync('qemu-img', args, { cwd: this.#dir, stdio: ['ignore', 'ignore', 'inherit'] });
  }

  create(name, size, { options } = {}) {
    const more = options === undefined ? [] : ['-o', options];
    this.qemuImg('create', '-q', '-f', 'qcow2', ...more, name, String(size));
  }

  overlay(name, backing, { options, backingFormat = 'qcow2' } = {}) {
    const more = options === undefined ? [] : ['-o', options];
    const below = ['-b', backing, '-F', backingFormat];
    this.qemuImg('create', '-q', '-f', 'qcow2', ...more, ...below, name);
  }

  /** An overlay whose first `length` bytes are data that half compresses. */
  fromRaw(name, backing, size, length, args = []) {
    const raw = join(this.#dir, 'source.raw');
    writeRaw(raw, length);
    this.qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...args, 'source.raw', name);
    this.qemuImg('resize', '-q', name, String(size));
    this.qemuImg('rebase', '-q', '-u', '-b', backing, '-F', 'qcow2', name);
    execFileSync('rm', [raw]);
  }

  /** `count` different units of the first `size` bytes, each filled with a byte of its own. */
  scatter(name, { size, unit, count, seed = 1 }) {
    const random = randomFrom(seed);
    const taken = new Set();
    while (taken.size < count) taken.add(Math.floor(random() * (size / unit)));
    const pattern = () => 1 + Math.floor(random() * 255);
    this.io(
      name,
      [...taken].map((index) => `write -P ${pattern()} ${index * unit} ${unit}`),
    );
  }

  /** Durability does not matter here: without flushes it is much quicker. */
  io(name, commands) {
    const options = { cwd: this.#dir, input: `${commands.join('\n')}\n`, stdio: 'pipe' };
    const output = execFileSync('qemu-io', ['-f', 'qcow2', '-t', 'unsafe', name], {
      ...options,
      encoding: 'utf8',
      maxBuffer: GIB,
    });
    if (/failed|error|invalid/i.test(output)) throw new Error(`qemu-io ${name}: ${output}`);
  }
}

function* zeroCommands(size) {
  for (let at = 0; at < size; at += GIB) yield `write -z ${at} ${GIB}`;
}

/** Blocks of random bytes and of text in turn, none like another. */
function writeRaw(path, length) {
  const random = randomFrom(7);
  const fd = openSync(path, 'w');
  const block = Buffer.alloc(64 * KIB);
  for (let at = 0; at < length; at += block.length) {
    block.fill(`line ${at}: nothing new under the sun\n`);
    for (let i = 0; i < block.length / 2; i += 4) block.writeUInt32LE(random() * 2 ** 32, i);
    writeSync(fd, block);
  }
  closeSync(fd);
}

/** Mulberry32: small, and good enough to spread clusters over a disk. */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
