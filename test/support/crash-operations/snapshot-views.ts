// What each snapshot of an image shows.

import { createHash } from 'node:crypto';
import { openChain } from '../../../src/chain/open.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { removeBitmap } from '../../../src/qcow2/bitmap-edit.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import { applySnapshot } from '../../../src/qcow2/snapshot-changes.ts';
import { ensure } from './scene.ts';

/** In words that can be compared. Goes back to each: `host` is a copy that nobody needs. */
export async function snapshotViews(host: MemoryHost, name: string): Promise<string> {
  await using chain = await openChain(name, { host, writable: true });
  const { top } = chain;
  ensure(top instanceof Qcow2Image, 'not a qcow2 image');
  // Bitmaps that record refuse to go back.
  await top.changeBitmaps(async (bitmaps) => {
    for (const { name: bitmap } of [...bitmaps.list]) removeBitmap(bitmaps, bitmap);
  });
  const shown: string[] = [];
  for (const snapshot of await top.snapshots()) {
    await applySnapshot(top, snapshot.name);
    const view = new Uint8Array(top.size);
    await top.read(0, view);
    shown.push(`${snapshot.name} ${top.size} ${createHash('sha1').update(view).digest('hex')}`);
  }
  return shown.join();
}
