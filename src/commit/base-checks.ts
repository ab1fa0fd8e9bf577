// What can refuse a commit because of its base: its format, its state, its size.

import { rebaseCommand } from '../chain/advice.ts';
import type { ChainLayer } from '../chain/chain.ts';
import { ImageError, reworded } from '../errors.ts';
import type { GrowOptions } from '../layer.ts';
import { l1EntriesFor } from '../qcow2/geometry.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { checkReachable } from '../qcow2/resize.ts';
import type { CommitOptions } from './options.ts';
import type { Range, Refuse } from './range.ts';

/** What a guest wrote into a raw disk can look like an image: a probed format is not written to. */
export function checkFormat(
  { chain, baseIndex, base }: Pick<Range, 'chain' | 'baseIndex' | 'base'>,
  refuse: Refuse,
): void {
  if (base.formatKnown) return;
  const overlay = chain.at(baseIndex - 1).filename;
  const { format } = base.layer;
  refuse(
    new ImageError(
      'invalid',
      `'${overlay}' does not store the format of its backing file '${base.storedName}', ` +
        `and a guessed format (${format}) is not written to`,
      {
        hint:
          'If that is its format, store it with: ' +
          rebaseCommand(overlay, base.storedName, format),
      },
    ),
  );
}

/** A commit that was cut off while base grew leaves bitmaps inconsistent: its next run goes on. */
export function growOptions({
  skipAdvice = false,
}: Pick<CommitOptions, 'skipAdvice'>): GrowOptions {
  return { keepsInconsistent: !skipAdvice };
}

/** Collects what keeps base from taking in what `top` shows. */
export async function checkBase(
  { top, base }: Pick<Range, 'top' | 'base'>,
  options: Pick<CommitOptions, 'skipAdvice'>,
  refuse: Refuse,
): Promise<void> {
  const { layer } = base;
  const grows = top.layer.size > layer.size;
  if (layer instanceof Qcow2Image) {
    const refusal = layer.refusalToWrite({ dataUnchanged: false, writable: true });
    if (refusal !== undefined) {
      refuse(reworded(refusal, `Could not open '${base.filename}': ${refusal.message}`));
    } else await collect(() => layer.verify(), refuse);
    const why = grows ? await layer.whyFixedSize(top.layer.size, growOptions(options)) : null;
    if (why !== null) refuse(sizeError(base, top, why));
    if (grows) {
      const entries = l1EntriesFor(top.layer.size, layer.geometry);
      await collect(async () => checkReachable(base.filename, entries), refuse);
    }
  } else if (grows && !layer.storage.resizable) {
    refuse(sizeError(base, top, 'it is a device'));
  }
}

/** What it throws is a refusal. */
export async function collect(work: () => Promise<void>, refuse: Refuse): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    refuse(error);
  }
}

function sizeError(base: ChainLayer, top: ChainLayer, why: string): ImageError {
  return new ImageError(
    'invalid',
    `'${base.filename}' has ${base.layer.size} bytes, '${top.filename}' has ${top.layer.size}, ` +
      `and the base can't grow: ${why}`,
  );
}
