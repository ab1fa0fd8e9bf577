// What a commit needs of the files of its chain before it writes, beyond having them open for reading:
// the right to write, and that nobody stands on what becomes invalid.

import type { Chain } from '../chain/chain.ts';
import { WRITER } from '../chain/open-qcow2.ts';
import type { Relink } from '../chain/relink.ts';
import { ImageError } from '../errors.ts';
import { fillPermissions, INVALIDATE } from '../io/permissions.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { CommitPlan } from './options.ts';
import type { Range } from './range.ts';
import type { Reclaim } from './reclaim.ts';
import type { SiblingCopy } from './siblings.ts';

export interface Accessed extends Range {
  readonly plan: CommitPlan;
  readonly relinks: readonly Relink[];
  readonly siblingCopies: readonly SiblingCopy[];
  readonly reclaim: Reclaim | null;
  readonly left: Chain | null;
}

type Take = (work: () => Promise<void>) => Promise<void>;

/**
 * Base first, as QEMU does. `each` runs every step: a dry run goes on where one is refused, and opens
 * for writing what it has only read so far.
 */
export async function takeAccess(prepared: Accessed, each: Take): Promise<void> {
  const { chain, base, relinks, siblingCopies, reclaim, left, plan } = prepared;
  const part = base.layer instanceof Qcow2Image ? 'image' : 'raw';
  const filling = fillPermissions(part, plan.newBaseSize > plan.baseSize);
  await each(async () => {
    await base.layer.storage.makeWritable(filling.use, filling.share);
    // Until now others might write to a raw disk.
    if (base.layer.size === plan.baseSize) return;
    const message = `The size of '${base.filename}' has changed meanwhile; nothing was written`;
    throw new ImageError('busy', message, { hint: 'Run the same command again.' });
  });
  const overlays = relinks.map(({ overlay }) => overlay);
  const siblings = siblingCopies.map(({ image }) => image);
  for (const { storage, writable } of [...overlays, ...siblings, chain.top]) {
    if (!writable) await each(() => storage.makeWritable(WRITER.use, WRITER.share));
  }
  await invalidate(chain, [...plan.merged.slice(1), ...plan.deletes], each);
  if (left !== null) await invalidate(left, plan.deletes, each);
  for (const [i, { storage }] of (reclaim?.layers ?? []).entries()) {
    const { share } = i === 0 ? WRITER : INVALIDATE;
    await each(() => storage.makeWritable(WRITER.use, share));
  }
}

/** Whoever reads a layer that becomes invalid, or is removed, would be cheated. */
export async function invalidate(
  { layers }: Chain,
  filenames: readonly string[],
  each: Take = (work) => work(),
): Promise<void> {
  const { use, share } = INVALIDATE;
  for (const { filename, layer } of layers) {
    if (filenames.includes(filename)) await each(() => layer.storage.lock(use, share));
  }
}
