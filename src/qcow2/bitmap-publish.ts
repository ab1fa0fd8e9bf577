// The bitmap directory in the file, and the switch of the header from one to the next.

import type { Storage } from '../io/storage.ts';
import { alignUp, divideUp, SECTOR } from '../units.ts';
import { encodeBitmapDirectory, hasBitmaps, type NewBitmapEntry } from './bitmap-directory.ts';
import type { BitmapWriter, Clusters } from './bitmap-store.ts';
import {
  type BitmapsExtension,
  encodeBitmapsExtension,
  findExtension,
  type HeaderExtension,
  parseBitmapsExtension,
} from './extensions.ts';
import type { Header } from './header.ts';
import {
  checkExtensionsFit,
  type ExtensionChange,
  rewriteExtensions,
} from './header-extensions.ts';
import type { PlaceContext } from './place.ts';
import { AUTOCLEAR, EXTENSION } from './spec.ts';

/** What bitmaps have to know of their image. */
export interface BitmapsOwner {
  readonly storage: Storage;
  /** As the file has it, but for what changes with each write. */
  header(): Header;
  context(): PlaceContext;
  /** Of the virtual disk, in bytes. */
  size(): number;
  /** The header cluster was changed. */
  headerChanged(): Promise<void>;
}

export type DirectoryPlace = Omit<BitmapsExtension, 'reserved'>;

/** Where the directory is that counts; null without one. */
export function directoryPlaceIn(header: Header): DirectoryPlace | null {
  const extension = findExtension(header.extensions, EXTENSION.bitmaps);
  return extension !== undefined && hasBitmaps(header) ? parseBitmapsExtension(extension) : null;
}

export function directoryClusters({ header, context }: BitmapsOwner): readonly Clusters[] {
  const place = directoryPlaceIn(header());
  if (place === null) return [];
  return [[place.directoryOffset, divideUp(place.directorySize, context().geometry.clusterSize)]];
}

/** A new directory, durable with all that it points to; null where there are no entries. */
export async function writeDirectory(
  { storage, context }: BitmapsOwner,
  writer: BitmapWriter,
  entries: readonly NewBitmapEntry[],
): Promise<DirectoryPlace | null> {
  let place: DirectoryPlace | null = null;
  if (entries.length > 0) {
    const directory = encodeBitmapDirectory(entries);
    const directoryOffset = await writer.writePiece(directory, 'bitmap-directory');
    place = { nbBitmaps: entries.length, directorySize: directory.length, directoryOffset };
  }
  await checkExtensionsFit(storage, (header) => changeTo(header, place));
  await context().tables.checkpoint();
  return place;
}

/** From here on that directory counts, durably. */
export async function switchDirectory(
  owner: BitmapsOwner,
  place: DirectoryPlace | null,
): Promise<void> {
  await rewriteExtensions(owner.storage, (header) => changeTo(header, place));
  await owner.headerChanged();
}

/** Those that have references to let go of: an inconsistent bitmap may point anywhere. */
export async function usedOf(
  { tables, geometry }: PlaceContext,
  clusters: readonly Clusters[],
): Promise<readonly Clusters[]> {
  await tables.loadRefcountTable();
  const found: Clusters[] = [];
  for (const [offset, count] of clusters) {
    for (let i = 0; i < count; i++) {
      const at = offset + i * geometry.clusterSize;
      if ((await tables.refcount(at / geometry.clusterSize)) > 0) found.push([at, 1]);
    }
  }
  return found;
}

/** The header with the directory at `place`, or without one. */
function changeTo(header: Header, place: DirectoryPlace | null): ExtensionChange {
  const { extensions, autoclearFeatures, headerLength } = header;
  const others = extensions.filter(({ type }) => type !== EXTENSION.bitmaps);
  if (place === null) {
    return { extensions: others, autoclearFeatures: autoclearFeatures & ~AUTOCLEAR.bitmaps };
  }
  const entry = { type: EXTENSION.bitmaps, data: encodeBitmapsExtension(place) };
  const isThere = others.length < extensions.length;
  const changed = isThere
    ? extensions.map((extension) => (extension.type === entry.type ? entry : extension))
    : withNew(others, entry, headerLength);
  return { extensions: changed, autoclearFeatures: autoclearFeatures | AUTOCLEAR.bitmaps };
}

/** Last, as QEMU has it; first where that would spread what changes together over two sectors. */
function withNew(
  extensions: readonly HeaderExtension[],
  entry: HeaderExtension,
  headerLength: number,
): readonly HeaderExtension[] {
  const before = extensions.reduce((sum, { data }) => sum + 8 + alignUp(data.length, 8), 0);
  const within = (headerLength + before + 8) % SECTOR;
  return within + entry.data.length <= SECTOR ? [...extensions, entry] : [entry, ...extensions];
}
