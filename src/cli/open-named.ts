// Opens the image that a reading command names: alone, so that it can at least be described, or with
// its backing files.

import type { Chain } from '../chain/chain.ts';
import { type OnWarning, openChain } from '../chain/open.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError } from '../errors.ts';
import type { CacheMode, Host } from '../io/host.ts';
import { nodeHost } from '../nbd/node-host.ts';
import type { Checking } from '../qcow2/header.ts';
import type { NamedImage } from './options.ts';
import { inOwnName, type ProgramContext } from './program.ts';

export interface OpenNamedOptions {
  /** Where files are. Default: this machine. */
  readonly host?: Host;
  readonly forceShare: boolean;
  readonly cache?: CacheMode;
  /** What `--object` defined. */
  readonly secrets: Secrets;
  /** Opens encrypted images without their keys. Default: as `describe`. */
  readonly locked?: boolean;
  /** Opens the backing files too: data can be read then. Default: the image alone. */
  readonly backing?: boolean;
  /** Opens the image for writing. */
  readonly writable?: boolean;
  readonly onWarning?: OnWarning;
  /** Opens what can only be described. Default: where the image is opened alone. */
  readonly describe?: boolean;
  /** Opens what can only be checked, or repaired. */
  readonly checking?: Checking;
}

/** Warnings of images that are opened, as QEMU prints them: the second line without an end. */
export function warner(program: ProgramContext): OnWarning {
  const { name, asQemu, err } = program;
  return (message, advice) => {
    const own = inOwnName(advice, program);
    err(`${name}: warning: ${message}\n${own}${asQemu ? '' : '\n'}`);
  };
}

type Operand = Pick<NamedImage, 'filename' | 'format' | 'label' | 'options'>;

/** The image that the operand means. Close it in the end. */
export async function openNamed(
  named: Operand,
  { backing = false, describe = !backing, host, ...options }: OpenNamedOptions,
): Promise<Chain> {
  checkNotEmpty(named);
  const { filename, format, label, options: described } = named;
  return await openChain(described ?? filename, {
    ...options,
    host: host ?? nodeHost,
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

/** Closes it in any case. What closing could say in addition would hide the error that matters. */
export async function closingAfter(chain: Chain, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    await chain.close().catch(() => undefined);
    throw error;
  }
  await chain.close();
}
