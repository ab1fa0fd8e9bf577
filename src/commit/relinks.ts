// Which overlays get base as their backing file, opened and checked before the first write.

import { asQcow2, type Chain } from '../chain/chain.ts';
import { hostFileOf, resolveName } from '../chain/filename.ts';
import { openChain } from '../chain/open.ts';
import { prepareRelink, type Relink } from '../chain/relink.ts';
import { ImageError } from '../errors.ts';
import type { Qcow2Image } from '../qcow2/image.ts';
import type { CommitOptions } from './options.ts';
import type { Range, Refuse } from './range.ts';

/** Images outside of the chain go to `opened`: the caller closes them. */
export async function prepareRelinks(
  { chain, topIndex, baseIndex, top, base }: Range,
  options: CommitOptions,
  opened: Chain[],
  refuse: Refuse,
): Promise<Relink[]> {
  const { host } = options;
  const via = chain.at(baseIndex - 1);
  const relinks: Relink[] = [];
  const add = async (overlay: Qcow2Image) => {
    const refusal = overlay.refusalToWrite({ dataUnchanged: true, writable: true });
    if (refusal !== undefined) refuse(refusal);
    relinks.push(await prepareRelink(host, overlay, base, via));
  };
  if (options.relink && baseIndex > 1) await add(asQcow2(top.layer));
  if (options.top === undefined || topIndex === 0) return relinks;
  for (const name of options.overlays ?? []) {
    // The one in the chain is open already.
    const id = (await host.identify(hostFileOf(name)))?.id;
    if (id === chain.at(topIndex - 1).id) continue;
    const overlay = await openChain(name, {
      host,
      format: 'qcow2',
      writable: !options.dryRun,
      single: true,
      forceShare: options.dryRun === true,
    });
    opened.push(overlay);
    const image = asQcow2(overlay.top);
    const stored = image.header.backingFile;
    const backing = stored && hostFileOf(resolveName(image.filename, stored));
    const stands = backing === null ? undefined : (await host.identify(backing))?.id;
    // Relinked by an earlier run. Should it have stood there all along, it counts as a sibling.
    if (stands === base.id) continue;
    if (stands !== top.id) {
      throw new ImageError('invalid', `The backing file of '${name}' is not '${top.filename}'`);
    }
    await add(image);
  }
  // Last: until then the same command finds what is left to do.
  await add(asQcow2(chain.at(topIndex - 1).layer));
  return relinks;
}
