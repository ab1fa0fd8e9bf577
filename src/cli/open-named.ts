// Opens the image that a reading command names: alone, so that it can at least be described, or with
// its backing files.

import type { Chain } from '../chain/chain.ts';
import { type OnWarning, openChain } from '../chain/open.ts';
import { ImageError } from '../errors.ts';
import type { CacheMode } from '../io/host.ts';
import { nodeHost } from '../io/node-host.ts';
import type { NamedImage } from './options.ts';
import type { ProgramContext } from './program.ts';

export interface OpenNamedOptions {
  readonly forceShare: boolean;
  readonly cache?: CacheMode;
  /** Opens the backing files too: data can be read then. Default: the image alone. */
  readonly backing?: boolean;
  /** Opens the image for writing. */
  readonly writable?: boolean;
  readonly onWarning?: OnWarning;
  /** Opens what can only be described. Default: where the image is opened alone. */
  readonly describe?: boolean;
  /** Opens what can only be checked. */
  readonly checking?: boolean;
}

/** Warnings of images that are opened, as QEMU prints them: the second line without an end. */
export function warner({ name, asQemu, err }: ProgramContext): OnWarning {
  return (message, advice) => err(`${name}: warning: ${message}\n${advice}${asQemu ? '' : '\n'}`);
}

type Operand = Pick<NamedImage, 'filename' | 'format' | 'label' | 'options'>;

/** The image that the operand means. Close it in the end. */
export async function openNamed(
  named: Operand,
  { backing = false, describe = !backing, ...options }: OpenNamedOptions,
): Promise<Chain> {
  checkNotEmpty(named);
  const { filename, format, label, options: described } = named;
  return await openChain(described ?? filename, {
    ...options,
    host: nodeHost,
    label,
    single: !backing,
    describe,
    ...(format !== undefined && { format }),
  });
}

export function checkNotEmpty({ filename, label, options }: Operand): void {
  if (options !== undefined || (filename !== '' && filename !== 'file:')) return;
  throw new ImageError(
    'invalid',
    `Could not open '${label}': The 'file' block driver requires a file name`,
  );
}

/** As QEMU warns, while it opens it, of an image that is to be written and was taken for raw. */
export function warnIfTakenForRaw(chain: Chain, program: ProgramContext): void {
  const { layer, formatKnown, filename } = chain.at(0);
  if (formatKnown || layer.format !== 'raw') return;
  const indent = ' '.repeat(9);
  program.err(
    `WARNING: Image format was not specified for '${filename}' and probing guessed raw.\n` +
      `${indent}Automatically detecting the format is dangerous for raw images, ` +
      'write operations on block 0 will be restricted.\n' +
      `${indent}Specify the 'raw' format explicitly to remove the restrictions.\n`,
  );
}
