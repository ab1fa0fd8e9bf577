// Reads the first cluster of an image, whose size it says itself.

import type { Storage } from '../io/storage.ts';
import { SECTOR } from '../units.ts';
import { headerClusterSize } from './header.ts';

/** As much of it as the file has. Throws `format`, `corrupt` or `unsupported` for what is no image. */
export async function readHeaderCluster(storage: Storage): Promise<Uint8Array> {
  const start = new Uint8Array(Math.min(SECTOR, storage.size));
  await storage.read(0, start);
  const cluster = new Uint8Array(Math.min(headerClusterSize(start), storage.size));
  await storage.read(0, cluster);
  return cluster;
}
