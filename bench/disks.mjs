// File systems to measure on: made in a file of their own on a loop device, or the one that is there.

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { join } from 'node:path';
import { GIB } from './chain-maker.mjs';
import { atTheLatest } from './cleanup.mjs';
import { onPath, run } from './measure.mjs';

/** What makes one, and how it is mounted: nothing may go on in the background. */
const KINDS = {
  ext4: { make: ['mkfs.ext4', '-q', '-F', '-E', 'nodiscard'], mount: 'noinit_itable,nodiscard' },
  xfs: { make: ['mkfs.xfs', '-q', '-f', '-K', '-m', 'reflink=1'], mount: 'nodiscard' },
  btrfs: { make: ['mkfs.btrfs', '-q', '-f', '-K'], mount: 'nodiscard' },
};
/** The file system of --dir as it is. */
export const HERE = 'here';
export const DISKS = [...Object.keys(KINDS), HERE];

/** What keeps us from measuring on `disks`, with `bytes` of data at the most. */
export function* diskProblems(disks, dir, bytes) {
  const unknown = disks.filter((disk) => !DISKS.includes(disk));
  if (unknown.length > 0) yield `--fs can't be ${unknown.join()}: ${DISKS.join(', ')}`;
  const made = disks.filter((disk) => disk in KINDS);
  if (made.length > 0 && process.getuid?.() !== 0) {
    yield `Making ${made.join(', ')} on loop devices needs root: use sudo, or --fs ${HERE}`;
  }
  for (const disk of made) {
    const [program] = KINDS[disk].make;
    if (!onPath(program)) yield `${program} is not on the path: install it, or leave out ${disk}`;
  }
  for (const program of made.length > 0 ? ['losetup', 'mount', 'umount'] : []) {
    if (!onPath(program)) yield `${program} is not on the path (util-linux)`;
  }
  const { bavail, bsize } = statfsSync(dir);
  const [need, free] = [roomFor(bytes), bavail * bsize];
  if (free < need) {
    yield `${dir} has ${inGib(free)} GiB free, and ${inGib(need)} GiB may be needed: ` +
      'take a smaller --scale, fewer --rows or --curves, or another --dir';
  }
}

/** The chain, a copy of it, and what is written into that. */
function roomFor(bytes) {
  return 3.5 * bytes + GIB;
}

function inGib(bytes) {
  return (bytes / GIB).toFixed(1);
}

/**
 * Calls `work(folder)` with a folder on a fresh file system that has room for `bytes` of data, and
 * removes everything afterwards.
 */
export async function onDisk(kind, dir, bytes, work) {
  const folder = mkdtempSync(join(dir, 'qimg-ts-bench-'));
  const remove = atTheLatest(() => rmSync(folder, { recursive: true, force: true }));
  try {
    if (kind === HERE) return await work(folder);
    const unmount = await mounted(KINDS[kind], folder, bytes);
    try {
      return await work(join(folder, 'mounted'));
    } finally {
      unmount();
    }
  } finally {
    remove();
  }
}

async function mounted({ make, mount }, folder, bytes) {
  const [file, point] = [join(folder, 'disk.img'), join(folder, 'mounted')];
  const fd = openSync(file, 'wx');
  // Sparse: what is not used takes no room.
  ftruncateSync(fd, Math.ceil(1.3 * roomFor(bytes) + 4 * GIB));
  closeSync(fd);
  mkdirSync(point);
  await run([...make, file]);
  const device = await attached(file);
  let detach = atTheLatest(() => mustEnd(['losetup', '-d', device]));
  try {
    await run(['mount', '-o', mount, device, point]);
    const unmount = atTheLatest(() => mustEnd(['umount', point], ['umount', '-l', point]));
    // In use now, it goes away by itself once nothing is mounted.
    detach();
    detach = () => undefined;
    return unmount;
  } finally {
    detach();
  }
}

/** Past the page cache of what is below, where that can be: nothing is cached, or written, twice. */
async function attached(file) {
  const attach = (...more) => run(['losetup', '--find', '--show', ...more, file]);
  return (await attach('--direct-io=on').catch(() => attach())).trim();
}

function mustEnd(command, otherwise) {
  // A program that was killed just now may still be there for an instant.
  for (let tries = 0; tries < 20; tries++) {
    if (spawnSync(command[0], command.slice(1), { stdio: 'ignore' }).status === 0) return;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  }
  const last = otherwise ?? command;
  const { status, stderr } = spawnSync(last[0], last.slice(1), { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${last.join(' ')}: ${stderr}`);
}

/** The kind of the file system of a folder, as --fs names it, as far as it is one of these. */
export async function kindOf(folder) {
  const type = (await run(['stat', '-f', '-c', '%T', folder])).trim();
  return type === 'ext2/ext3' ? 'ext4' : type;
}
