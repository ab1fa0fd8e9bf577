// Small file systems and loop devices, which go away with the test that asked for them. They need
// root; the reason why they can't be had is for the name of a skipped test.

import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { makeTemp, tempDir } from './temp.ts';

const runSync = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, [...args], { encoding: 'utf8', stdio: 'pipe' }).trim();

/** A tmpfs of that many bytes (whole pages), mounted on a new directory. */
export function smallDisk(bytes: number): string {
  const dir = join(tempDir(), 'disk');
  mkdirSync(dir);
  runSync('mount', '-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', dir);
  onTestFinished(() => {
    runSync('umount', dir);
  });
  return dir;
}

/** An XFS, whose files can share extents, of that many bytes (300 MiB at least). */
export function sharingDisk(bytes: number): string {
  const { dir, unmount } = mountXfs(tempDir(), bytes);
  onTestFinished(unmount);
  return dir;
}

function mountXfs(place: string, bytes: number) {
  const [file, dir] = [join(place, 'xfs'), join(place, 'disk')];
  writeFileSync(file, '');
  truncateSync(file, bytes);
  runSync('mkfs.xfs', '-q', file);
  mkdirSync(dir);
  runSync('mount', '-o', 'loop', file, dir);
  return { dir, unmount: () => void runSync('umount', dir) };
}

/** Undefined where such a file system can be mounted, else why not. */
export function whyNoSharing(): string | undefined {
  const { dir, cleanup } = makeTemp();
  try {
    mountXfs(dir, 300 * 1024 * 1024).unmount();
    return undefined;
  } catch (error) {
    return `no XFS here: ${reasonOf(error)}`;
  } finally {
    cleanup();
  }
}

/** An ext4 of that many bytes in a file, mounted on a new directory. */
export function smallExt4(bytes: number): string {
  const dir = join(tempDir(), 'disk');
  const file = join(tempDir(), 'ext4');
  mkdirSync(dir);
  writeFileSync(file, '');
  truncateSync(file, bytes);
  runSync('mkfs.ext4', '-q', '-F', file);
  runSync('mount', '-o', 'loop', file, dir);
  onTestFinished(() => {
    runSync('umount', dir);
  });
  return dir;
}

/** A file system of 300 MiB on a loop device whose logical blocks have that many bytes. */
export function blockDisk(kind: 'ext4' | 'xfs', blockBytes: number): string {
  const dir = join(tempDir(), 'disk');
  const file = join(tempDir(), kind);
  mkdirSync(dir);
  writeFileSync(file, '');
  truncateSync(file, 300 * 1024 * 1024);
  const device = runSync('losetup', '--find', '--show', '--sector-size', `${blockBytes}`, file);
  try {
    runSync(`mkfs.${kind}`, '-q', device);
    runSync('mount', device, dir);
  } catch (error) {
    runSync('losetup', '--detach', device);
    throw error;
  }
  onTestFinished(() => {
    runSync('umount', dir);
    runSync('losetup', '--detach', device);
  });
  return dir;
}

/** A file system that knows no reading and writing around the page cache. */
export function ramDisk(): string {
  const dir = join(tempDir(), 'disk');
  mkdirSync(dir);
  runSync('mount', '-t', 'ramfs', 'ramfs', dir);
  onTestFinished(() => {
    runSync('umount', dir);
  });
  return dir;
}

/** Another size, or other options, for a file system that is mounted. */
export function remount(dir: string, options: string): void {
  runSync('mount', '-o', `remount,${options}`, dir);
}

/** A loop device over a new file of zeros; its name under /dev. */
export function loopDevice(bytes: number): string {
  return attach(join(tempDir(), 'device'), bytes, (detach) => onTestFinished(detach));
}

function attach(file: string, bytes: number, later: (detach: () => void) => void): string {
  writeFileSync(file, '');
  truncateSync(file, bytes);
  const device = runSync('losetup', '--find', '--show', file);
  later(() => {
    runSync('losetup', '--detach', device);
  });
  return device;
}

/** Undefined where mounting works, else why it does not. */
export function whyNoMounts(): string | undefined {
  const { dir, cleanup } = makeTemp();
  try {
    runSync('mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', dir);
    runSync('umount', dir);
    return undefined;
  } catch (error) {
    return `no mounts here: ${reasonOf(error)}`;
  } finally {
    cleanup();
  }
}

/** Undefined where loop devices can be had, else why not. */
export function whyNoLoops(): string | undefined {
  const { dir, cleanup } = makeTemp();
  try {
    let detach: (() => void) | undefined;
    attach(join(dir, 'probe'), 1024 * 1024, (how) => {
      detach = how;
    });
    detach?.();
    return undefined;
  } catch (error) {
    return `no loop devices here: ${reasonOf(error)}`;
  } finally {
    cleanup();
  }
}

function reasonOf(error: unknown): string {
  const { stderr, message } = error as Error & { readonly stderr?: string };
  return (stderr || message).trim();
}
