// Another size for a disk.

import { resizeTop } from '../chain/resize.ts';
import { ImageError } from '../errors.ts';
import type { OpenOptions } from './chain.ts';
import { checkChoice } from './checks.ts';
import { openEngine } from './engine-chain.ts';
import { nodeHost } from './node-host.ts';
import type { ImageSource } from './source.ts';

/** How {@link resizeImage} resizes. */
export interface ResizeOptions
  extends Pick<OpenOptions, 'signal' | 'format' | 'cache' | 'host' | 'secrets'> {
  /** The disk may become smaller: what lies past its new end is lost. Default false. */
  readonly shrink?: boolean;
  /**
   * What the new area has from the start: `metadata` maps all of it, `falloc` also sets its space
   * aside, `full` writes zeros; raw files have no `metadata`. Of a disk that grows alone. Default
   * `off`.
   */
  readonly preallocation?: 'off' | 'metadata' | 'falloc' | 'full';
  /** Tries although the file system may not have the space. Default false. */
  readonly force?: boolean;
}

/**
 * Gives the disk of an image another size, in bytes: 1 to 2^53 - 1, of a qcow2 image a multiple of
 * 512. What a disk grows by reads as zeros, even over a longer backing file and where a smaller disk
 * left something. Bitmaps keep what they recorded of what is still there; snapshots keep their own
 * sizes. Durable when it resolves; whatever stops it, whenever, the disk has the old size or the new
 * one, and what is there is unchanged.
 *
 * Rejects, before anything is written, with `invalid` (the size, an option, a raw file whose format is
 * not given), `unsupported` (version 2 with snapshots, an inconsistent bitmap, a device), `no-space`
 * (the message has both numbers), `read-only`, `busy`, `corrupt`, and as `openChain`; later with
 * `no-space` or `io`. A signal is looked at before the first write.
 *
 * Source: the specification's "Header" (size, l1_size); what `qemu-img resize` does.
 */
export async function resizeImage(
  source: ImageSource,
  size: number,
  options: ResizeOptions = {},
): Promise<void> {
  const { shrink = false, preallocation = 'off', force = false, signal, ...rest } = options;
  if (!Number.isSafeInteger(size) || size <= 0) {
    throw new ImageError('invalid', `The size is out of range: ${size}`);
  }
  checkChoice('preallocation', preallocation, ['off', 'metadata', 'falloc', 'full']);
  const { host = nodeHost } = rest;
  const chain = await openEngine(source, { ...rest, writable: true, ...(signal && { signal }) });
  try {
    const { layer, formatKnown, filename } = chain.at(0);
    if (!formatKnown && layer.format === 'raw') {
      throw new ImageError('invalid', `The format of '${filename}' was guessed to be raw: give it`);
    }
    if (size < chain.size && !shrink) {
      throw new ImageError('invalid', `The disk has ${chain.size} bytes, and shrink is not set`);
    }
    if (size <= chain.size && preallocation !== 'off') {
      throw new ImageError('invalid', 'Preallocation is for disks that grow');
    }
    signal?.throwIfAborted();
    await resizeTop(chain, size, { host, preallocation, force });
  } catch (error) {
    await chain.close().catch(() => undefined);
    throw error;
  }
  await chain.close();
}
