// Small images in the files of a host in memory, by name.

import type { MemoryHost } from '../../src/io/memory-host.ts';
import type { CreateOptions } from '../../src/qcow2/create.ts';
import { imageIn } from './memory-images.ts';
import { pattern } from './storage-contract.ts';

export const DISK = 64 * 1024;

export interface NamedImage extends Partial<CreateOptions> {
  /** Fills the whole disk with bytes of this seed. */
  readonly filled?: number;
}

/** A qcow2 image of 64 KiB in clusters of 4 KiB, if not asked otherwise. */
export async function addImage(
  host: MemoryHost,
  name: string,
  { filled, ...options }: NamedImage = {},
): Promise<void> {
  const storage = await host.createStorage(name);
  await using image = await imageIn(storage, { size: DISK, clusterSize: 4096, ...options });
  if (filled !== undefined) await image.write(0, pattern(image.size, filled));
}

/** Images on top of each other in one directory, the deepest first; each names its format. */
export async function addChain(host: MemoryHost, ...names: readonly string[]): Promise<void> {
  for (const [i, name] of names.entries()) {
    const below = names[i - 1];
    const backingFile = below?.slice(below.lastIndexOf('/') + 1);
    const backing = backingFile === undefined ? {} : { backingFile, backingFormat: 'qcow2' };
    await addImage(host, name, backing);
  }
}
