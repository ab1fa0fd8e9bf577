// The new backing file: where its name leads as seen from the image, and what it stands on in turn.

import type { Chain, ChainLayer } from '../chain/chain.ts';
import {
  directoryOf,
  isAbsolute,
  protocolOf,
  relativeName,
  resolveName,
} from '../chain/filename.ts';
import { openChain } from '../chain/open.ts';
import { ImageError, isMachineFault } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { RebaseOptions } from './rebase-options.ts';

export interface NewBacking {
  /** Top first; empty for none. */
  readonly layers: readonly ChainLayer[];
  /** The chain it was opened as; undefined where it is part of the old one. */
  readonly opened: Chain | undefined;
  /** Its index below the image in the old chain, by the rules of QEMU; undefined if it has none. */
  readonly prefix: number | undefined;
}

const NOTHING: NewBacking = { layers: [], opened: undefined, prefix: undefined };

/** What the name means that the image is to store. Throws where that can't be told. */
export function resolveBacking(top: ChainLayer, backing: string): string {
  if (isAbsolute(backing) || protocolOf(backing) !== null) return backing;
  if (protocolOf(top.name) !== 'json') return resolveName(top.filename, backing);
  throw new ImageError(
    'invalid',
    'Could not resolve backing filename: ' +
      `Cannot use relative backing file names for '${top.name}'`,
  );
}

/** Opens the new backing file for reading, unless it is open in the old chain. */
export async function openNewBacking(chain: Chain, options: RebaseOptions): Promise<NewBacking> {
  const { backing = '', backingFormat } = options;
  if (backing === '') return NOTHING;
  const name = resolveBacking(chain.at(0), backing);
  const found = await chain.find(name);
  const prefix = found === undefined ? undefined : found - 1;
  const index = protocolOf(name) === null ? await chain.findByPath(name) : undefined;
  if (index !== undefined && index > 0) {
    const { format } = chain.at(index).layer;
    // Seen as another format, it shows something else.
    if (backingFormat === undefined || backingFormat === format) {
      return { layers: chain.layers.slice(index), opened: undefined, prefix };
    }
  }
  if (index === 0 && !options.skipAdvice) throw loopError(chain, backing);
  const opened = await openOther(chain, name, options);
  return { layers: opened.layers, opened, prefix };
}

async function openOther(chain: Chain, name: string, options: RebaseOptions): Promise<Chain> {
  const { host, backing = '', backingFormat: format, forceShare = false, skipAdvice } = options;
  const { sourceCache: cache, secrets, signal, onWarning } = options;
  try {
    const opened = await openChain(name, {
      host,
      forceShare,
      ...(format !== undefined && { format }),
      ...(cache !== undefined && { cache }),
      ...(secrets !== undefined && { secrets }),
      ...(signal !== undefined && { signal }),
      ...(onWarning !== undefined && { onWarning }),
    });
    if (!opened.layers.some(({ id }) => id === chain.at(0).id)) return opened;
    await opened.close();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const isLoop = error.code === 'busy' && !skipAdvice && (await leadsTo(chain, name, options));
    const advice = skipAdvice ? undefined : await asSeenFromHere(chain, backing, host);
    if (!isLoop) throw openError(error, name, backing, advice);
  }
  throw loopError(chain, backing);
}

/** Whether the image that is to stand on it is among the layers of `name`. */
export async function leadsTo(
  chain: Chain,
  name: string,
  { host, backingFormat: format }: RebaseOptions,
): Promise<boolean> {
  const look = { host, forceShare: true, describe: true, ...(format !== undefined && { format }) };
  const other = await openChain(name, look).catch(() => undefined);
  await other?.close();
  return other?.layers.some(({ id }) => id === chain.at(0).id) === true;
}

/** Advice on the name to store, where the given one is right from the working directory. */
export async function asSeenFromHere(
  chain: Chain,
  name: string,
  host: Host,
): Promise<string | undefined> {
  if (protocolOf(name) !== null || isAbsolute(name)) return undefined;
  const identity = await host.identify(name).catch(() => undefined);
  const { filename, id } = chain.at(0);
  const directory = directoryOf(filename);
  if (identity?.kind !== 'file' || identity.id === id || directory === '') return undefined;
  const near = relativeName(await host.realPath(directory), await host.realPath(name));
  return `Seen from the directory of the image, that file is '${near}': give this name`;
}

function openError(
  error: ImageError,
  name: string,
  backing: string,
  advice: string | undefined,
): ImageError {
  const { code, errno, hint, message } = error;
  const own = `Could not open '${name}': `;
  const why = message.startsWith(own) ? message.slice(own.length) : message;
  const next = advice === undefined || isMachineFault(error) ? hint : `${advice}.`;
  return new ImageError(code, `Could not open new backing file '${backing}': ${why}`, {
    cause: error,
    ...(errno !== undefined && { errno }),
    ...(next !== undefined && { hint: next }),
  });
}

export function loopError(chain: Chain, backing: string): ImageError {
  const { filename } = chain.at(0);
  return new ImageError(
    'invalid',
    `'${backing}' can't be the backing file of '${filename}': it stands on that image itself`,
  );
}
