// Which overlays get base as their backing file, opened and checked before the first write.

import { asQcow2, type Chain } from '../chain/chain.ts';
import { fileBehind } from '../chain/file-behind.ts';
import { hostFileOf } from '../chain/filename.ts';
import { openChain } from '../chain/open.ts';
import { prepareRelink, type Relink } from '../chain/relink.ts';
import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Qcow2Image } from '../qcow2/image.ts';
import type { CommitOptions } from './options.ts';
import type { Range, Refuse } from './range.ts';

export interface Relinks {
  readonly relinks: readonly Relink[];
  /** Overlays outside of the chain that get relinked, open: the caller closes them. */
  readonly overlays: readonly Chain[];
  /** Overlays that were named, and stand on base already. */
  readonly done: readonly string[];
}

export async function prepareRelinks(
  range: Range,
  options: CommitOptions,
  refuse: Refuse,
): Promise<Relinks> {
  const { chain, topIndex, baseIndex, top, base } = range;
  const relinks: Relink[] = [];
  const overlays: Chain[] = [];
  const done: string[] = [];
  const via = chain.at(baseIndex - 1);
  const add = async (overlay: Qcow2Image, notes = false) => {
    const refusal = overlay.refusalToWrite({ dataUnchanged: true, writable: true });
    if (refusal !== undefined) refuse(refusal);
    relinks.push(await prepareRelink(options.host, overlay, base, via, notes));
  };
  if (options.relink && baseIndex > 1) await add(asQcow2(top.layer), options.delete === true);
  if (topIndex === 0) return { relinks, overlays, done };
  const above = chain.at(topIndex - 1);
  const seen = new Set([above.id]);
  try {
    for (const name of options.overlays ?? []) {
      // The one in the chain is open already, as is one that is named twice.
      const id = (await options.host.identify(hostFileOf(name)))?.id ?? name;
      if (seen.has(id)) continue;
      seen.add(id);
      const overlay = await openOverlay(name, options);
      overlays.push(overlay);
      const image = asQcow2(overlay.top);
      const stands = await backingIdOf(image, options.host);
      // Relinked by an earlier run, or it has stood there all along: that is looked at later.
      if (stands === base.id) {
        done.push(name);
        await overlays.pop()?.close();
      } else if (stands === top.id) await add(image);
      else {
        throw new ImageError('invalid', `The backing file of '${name}' is not '${top.filename}'`);
      }
    }
    // Last: until then the same command finds what is left to do.
    await add(asQcow2(above.layer));
    return { relinks, overlays, done };
  } catch (error) {
    for (const overlay of overlays) await overlay.close().catch(() => undefined);
    throw error;
  }
}

function openOverlay(name: string, { host, dryRun = false }: CommitOptions): Promise<Chain> {
  const access = { writable: !dryRun, forceShare: dryRun };
  return openChain(name, { host, format: 'qcow2', single: true, locked: true, ...access });
}

/** The same for an image that is not open. */
export async function backingOf(name: string, host: Host): Promise<string | undefined> {
  const options = { host, format: 'qcow2', single: true, locked: true, forceShare: true };
  await using overlay = await openChain(name, options);
  return await backingIdOf(asQcow2(overlay.top), host);
}

/** Identity of the file that an image names as its backing file. */
export async function backingIdOf(image: Qcow2Image, host: Host): Promise<string | undefined> {
  const { backingFile } = image.header;
  if (backingFile === null) return undefined;
  const file = fileBehind(image.filename, backingFile);
  return file === null ? undefined : (await host.identify(file))?.id;
}
