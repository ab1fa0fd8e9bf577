// Rewrites one backing pointer: the overlay's header names another backing file. The last step of a
// commit, after everything that the new backing file holds is durable.

import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Layer, LayerFormat } from '../layer.ts';
import { type BackingPointer, checkBackingFits } from '../qcow2/backing.ts';
import type { Qcow2Image } from '../qcow2/image.ts';
import type { ChainLayer } from './chain.ts';
import { fileBehind } from './file-behind.ts';
import { baseNameOf, directoryOf, isAbsolute, protocolOf, relativeName } from './filename.ts';

export interface Relink extends BackingPointer {
  readonly overlay: Qcow2Image;
  readonly format: LayerFormat;
}

/**
 * The backing pointer that `overlay` gets, checked: the name fits into its header and, seen from
 * its directory, leads to `base`. `via` is the layer whose header names base now. `notes`: what it
 * stands on now is going to be removed, and named in its header until then, if there is room.
 */
export async function prepareRelink(
  host: Host,
  overlay: Qcow2Image,
  base: ChainLayer,
  via: ChainLayer,
  notes = false,
): Promise<Relink> {
  const name = await nameFor(host, overlay, base, via);
  const file = fileBehind(overlay.filename, name);
  const found = file === null ? undefined : await host.identify(file);
  if (found === undefined || found.id !== base.id) {
    throw new ImageError(
      'invalid',
      `${overlay.filename} can't be relinked: '${name}', seen from its directory, is not ` +
        `'${base.filename}'`,
    );
  }
  const pointer = { name, format: base.layer.format };
  await checkBackingFits(overlay.storage, pointer);
  const left = notes ? overlay.header.backingFile : null;
  if (left === null) return { overlay, ...pointer };
  const fits = await checkBackingFits(overlay.storage, { ...pointer, left }).then(
    () => true,
    (error: unknown) => {
      if (error instanceof ImageError && error.code === 'invalid') return false;
      throw error;
    },
  );
  return { overlay, ...pointer, ...(fits && { left }) };
}

/**
 * Rewrites the header; durable when it resolves. `below`: the layer that the overlay, used meanwhile,
 * stands on from then on. Default: the one that it has.
 */
export async function relink(
  { overlay, ...pointer }: Relink,
  below: Layer | null = overlay.backing,
): Promise<void> {
  await overlay.setBackingFile(pointer, below);
}

/** As base is named now, where that means the same file; else relative, absolute where it was. */
async function nameFor(
  host: Host,
  overlay: Qcow2Image,
  base: ChainLayer,
  via: ChainLayer,
): Promise<string> {
  const stored = base.storedName;
  // What a protocol or a description means does not depend on the overlay's directory.
  if (protocolOf(stored) !== null) return stored;
  const sameDirectory =
    (await host.realPath(directoryOf(overlay.filename) || '.')) ===
    (await host.realPath(directoryOf(via.filename) || '.'));
  if (sameDirectory || isAbsolute(stored)) return stored;
  const directory = await host.realPath(directoryOf(overlay.filename) || '.');
  const baseDirectory = await host.realPath(directoryOf(base.filename) || '.');
  const absolute = `${baseDirectory}/${baseNameOf(base.filename)}`.replace(/^\/\//, '/');
  const keepAbsolute = isAbsolute(overlay.header.backingFile ?? '');
  return keepAbsolute ? absolute : relativeName(directory, absolute);
}
