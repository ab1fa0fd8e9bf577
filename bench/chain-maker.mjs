// Makes chains by QEMU's tools, from fixed seeds, so that any two runs measure the same.

import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './measure.mjs';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** Images of one folder. */
export class ChainMaker {
  #dir;

  constructor(dir) {
    this.#dir = dir;
  }

  qemuImg(...args) {
    return run(['qemu-img', ...args], { cwd: this.#dir });
  }

  create(name, size, { options } = {}) {
    const more = options === undefined ? [] : ['-o', options];
    return this.qemuImg('create', '-q', '-f', 'qcow2', ...more, name, String(size));
  }

  overlay(name, backing, { options, backingFormat = 'qcow2' } = {}) {
    const more = options === undefined ? [] : ['-o', options];
    const below = ['-b', backing, '-F', backingFormat];
    return this.qemuImg('create', '-q', '-f', 'qcow2', ...more, ...below, name);
  }

  /** An overlay whose first `length` bytes are compressed data, half of which shrinks. */
  async compressed(name, backing, { size, length, type }) {
    const raw = join(this.#dir, 'source.raw');
    writeRaw(raw, length);
    const how = ['-c', '-W', '-o', `compression_type=${type}`];
    await this.qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...how, 'source.raw', name);
    await this.qemuImg('resize', '-q', name, String(size));
    await this.qemuImg('rebase', '-q', '-u', '-b', backing, '-F', 'qcow2', name);
    rmSync(raw);
  }

  /** Bytes `at` to `at + length`, each MiB filled with a byte of its own. */
  fill(name, at, length) {
    const writes = [];
    for (let done = 0; done < length; done += MIB) {
      const index = (at + done) / MIB;
      writes.push(`write -P ${1 + (index % 251)} ${at + done} ${Math.min(MIB, length - done)}`);
    }
    return this.io(name, writes);
  }

  /** `count` different units of the first `size` bytes, each filled with a byte of its own. */
  scatter(name, { size, unit, count, seed = 1 }) {
    const random = randomFrom(seed);
    const taken = new Set();
    while (taken.size < count) taken.add(Math.floor(random() * Math.floor(size / unit)));
    const pattern = () => 1 + Math.floor(random() * 255);
    return this.io(
      name,
      [...taken].map((index) => `write -P ${pattern()} ${index * unit} ${unit}`),
    );
  }

  /** Zero clusters from `at` on. */
  zero(name, at, length) {
    const writes = [];
    for (let done = 0; done < length; done += GIB) {
      writes.push(`write -z ${at + done} ${Math.min(GIB, length - done)}`);
    }
    return this.io(name, writes);
  }

  /** Durability does not matter here: without flushes it is much quicker. */
  async io(name, commands) {
    const input = `${commands.join('\n')}\n`;
    const output = await run(['qemu-io', '-f', 'qcow2', '-t', 'unsafe', name], {
      cwd: this.#dir,
      input,
    });
    if (/failed|error|invalid/i.test(output)) throw new Error(`qemu-io ${name}: ${output}`);
  }
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
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
