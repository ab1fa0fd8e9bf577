// Opens the image that a reading command names: alone, so that it can at least be described, or with
// its backing files.

import type { Chain } from '../chain/chain.ts';
import { openChain } from '../chain/open.ts';
import { ImageError, reworded } from '../errors.ts';
import type { CacheMode } from '../io/host.ts';
import { nodeHost } from '../io/node-host.ts';
import type { NamedImage } from './options.ts';

export interface OpenNamedOptions {
  readonly forceShare: boolean;
  readonly cache?: CacheMode;
  /** Opens the backing files too: data can be read then. Default: the image alone. */
  readonly backing?: boolean;
  /** Opens what can only be described. Default: where the image is opened alone. */
  readonly describe?: boolean;
}

/** The image that the operand means. Close it in the end. */
export async function openNamed(
  { filename, format, label }: Pick<NamedImage, 'filename' | 'format' | 'label'>,
  { backing = false, describe = !backing, ...options }: OpenNamedOptions,
): Promise<Chain> {
  checkNotEmpty(filename, label);
  try {
    return await openChain(filename, {
      ...options,
      host: nodeHost,
      single: !backing,
      describe,
      ...(format !== undefined && { format }),
    });
  } catch (error) {
    throw error instanceof ImageError ? relabel(error, filename, label) : error;
  }
}

export function checkNotEmpty(filename: string, label: string): void {
  if (filename !== '' && filename !== 'file:') return;
  throw new ImageError(
    'invalid',
    `Could not open '${label}': The 'file' block driver requires a file name`,
  );
}

function relabel(error: ImageError, filename: string, label: string): ImageError {
  const head = `Could not open '${filename}': `;
  if (filename === label || !error.message.startsWith(head)) return error;
  return reworded(error, `Could not open '${label}': ${error.message.slice(head.length)}`);
}
