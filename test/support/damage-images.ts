// Sound images with the features that a repair has to keep, over one raw base.

import { mustIn, qemuIo } from './qemu.ts';

export const BASE = 'base.raw';
const DISK = '1M';

interface Wanted {
  readonly options: string;
  readonly backed?: boolean;
  readonly snapshots?: boolean;
  readonly bitmaps?: boolean;
  readonly compressed?: boolean;
}

const IMAGES: Readonly<Record<string, Wanted>> = {
  v2: { options: 'compat=0.10,cluster_size=4096', snapshots: true },
  v3: { options: 'cluster_size=4096' },
  small: { options: 'cluster_size=512', snapshots: true },
  snapshots: { options: 'cluster_size=4096', snapshots: true },
  bitmaps: { options: 'cluster_size=4096', bitmaps: true },
  all: { options: 'cluster_size=1024', bitmaps: true, snapshots: true, compressed: true },
  subclusters: { options: 'cluster_size=16k,extended_l2=on', snapshots: true, backed: true },
  compressed: { options: 'cluster_size=4096', compressed: true },
  'refcounts-1': { options: 'cluster_size=512,refcount_bits=1' },
  'refcounts-64': { options: 'cluster_size=512,refcount_bits=64', snapshots: true },
  backed: { options: 'cluster_size=4096', backed: true },
  large: { options: 'cluster_size=64k', snapshots: true },
};

export const IMAGE_NAMES: readonly string[] = Object.keys(IMAGES);

export async function makeBase(dir: string): Promise<void> {
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'raw', BASE, DISK);
  await qemuIo(BASE, ['write -P 0xb0 0 768k', 'write -P 0xb1 100k 64k'], 'raw', dir);
}

/** The image, which has to be called so, in the directory of the base. */
export async function makeImage(dir: string, name: string, file: string): Promise<void> {
  const { options, backed, snapshots, bitmaps, compressed } = IMAGES[name] as Wanted;
  const below = backed ? ['-b', BASE, '-F', 'raw'] : [];
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, ...below, file, DISK);
  const write = (...commands: readonly string[]) => qemuIo(file, commands, 'qcow2', dir);
  await write('write -P 1 0 64k', 'write -P 2 200k 72k', 'write -P 3 512k 40k', 'write -z 96k 32k');
  if (compressed) await write('write -c -P 4 640k 16k', 'write -c -P 5 704k 16k');
  if (snapshots) {
    await mustIn(dir, 'qemu-img', 'snapshot', '-c', 'first', file);
    await write('write -P 6 32k 64k', 'write -P 7 520k 16k', 'write -z 208k 16k');
    await mustIn(dir, 'qemu-img', 'snapshot', '-c', 'second', file);
    await write('write -P 8 64k 32k', 'write -P 9 900k 16k');
  }
  if (bitmaps) {
    for (const bitmap of ['one', 'two']) {
      await mustIn(dir, 'qemu-img', 'bitmap', '--add', '-g', '4k', file, bitmap);
    }
    await write('write -P 10 300k 20k');
  }
}
