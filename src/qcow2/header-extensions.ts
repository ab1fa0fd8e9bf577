// Changes the header extensions of an image so that at every instant the header has either all of
// the old ones or all of the new ones.
//
// What is one sector in the file changes in one write. Extensions that reach past the first sector
// on both sides go by way of a state that fits into it: the same without the feature name table,
// which is there for messages alone and comes back with the last write. The backing file name moves
// where it is in the way.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { alignDown, SECTOR } from '../units.ts';
import { encodeExtensions, type HeaderExtension } from './extensions.ts';
import { writeField } from './fields.ts';
import { type Header, parseHeader } from './header.ts';
import { readHeaderCluster } from './header-cluster.ts';
import { EXTENSION, HEADER } from './spec.ts';

export interface ExtensionChange {
  readonly extensions: readonly HeaderExtension[];
  readonly autoclearFeatures: bigint;
}

interface Patch {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Durable when it resolves. What the extensions point to has to be durable before. */
export async function rewriteExtensions(
  storage: Storage,
  change: (header: Header) => ExtensionChange,
): Promise<void> {
  const start = await readHeaderCluster(storage);
  const header = parseHeader(start, 'repair');
  const cluster = new Uint8Array(2 ** header.clusterBits);
  cluster.set(start);
  for (const { offset, bytes } of patchesFor(cluster, header, change(header), storage.filename)) {
    await storage.write(offset, bytes, 'header');
    await storage.flush();
  }
}

/** Refuses, before anything is written, extensions that have no room in the header cluster. */
export async function checkExtensionsFit(
  storage: Storage,
  change: (header: Header) => ExtensionChange,
): Promise<void> {
  const start = await readHeaderCluster(storage);
  const header = parseHeader(start, 'repair');
  const cluster = new Uint8Array(2 ** header.clusterBits);
  cluster.set(start);
  patchesFor(cluster, header, change(header), storage.filename);
}

function patchesFor(
  old: Uint8Array,
  header: Header,
  change: ExtensionChange,
  filename: string,
): readonly Patch[] {
  const refuse = () =>
    new ImageError('unsupported', `${filename}: the header has no room for what has to be added`);
  const { headerLength } = header;
  const extensions = encodeExtensions(change.extensions);
  const end = headerLength + extensions.length;
  const name = nameOf(header);
  const stays = name.length === 0 || name.start >= end;
  const nameStart = stays
    ? name.start
    : Math.max(end, header.extensionsEnd, name.start + name.length);
  if (end > old.length || nameStart + name.length > old.length) throw refuse();
  const target = withExtensions(old, header, extensions, change, nameStart);
  target.fill(0, end, Math.min(header.extensionsEnd, stays ? target.length : nameStart));
  if (!stays) target.set(old.subarray(name.start, name.start + name.length), nameStart);

  const sectors = differingSectors(old, target);
  if (sectors.length <= 1) return sectors.map((at) => sectorOf(target, at));
  const tailEnd = Math.max(...sectors) + SECTOR;
  const tail = { offset: SECTOR, bytes: target.subarray(SECTOR, tailEnd) };
  if (!isLookedAt(old, target, header)) return [tail, sectorOf(target, 0)];
  const small = encodeExtensions(
    change.extensions.filter(({ type }) => type !== EXTENSION.featureNameTable),
  );
  if (headerLength + small.length > SECTOR) throw refuse();
  const between = withExtensions(old, header, small, change, nameStart);
  const moved = { offset: nameStart, bytes: target.subarray(nameStart, nameStart + name.length) };
  return [...(stays ? [] : [moved]), sectorOf(between, 0), tail, sectorOf(target, 0)];
}

function nameOf(header: Header): { readonly start: number; readonly length: number } {
  const start = header.backingFileOffset;
  return { start, length: start === 0 ? 0 : header.backingFileSize };
}

function withExtensions(
  old: Uint8Array,
  { headerLength }: Header,
  extensions: Uint8Array,
  { autoclearFeatures }: ExtensionChange,
  nameStart: number,
): Uint8Array {
  const cluster = old.slice();
  cluster.set(extensions, headerLength);
  writeField(cluster, HEADER.autoclearFeatures, autoclearFeatures);
  writeField(cluster, HEADER.backingFileOffset, nameStart);
  return cluster;
}

function sectorOf(cluster: Uint8Array, offset: number): Patch {
  return { offset, bytes: cluster.slice(offset, offset + SECTOR) };
}

function differingSectors(a: Uint8Array, b: Uint8Array): readonly number[] {
  const sectors = new Set<number>();
  a.forEach((byte, i) => {
    if (byte !== b[i]) sectors.add(alignDown(i, SECTOR));
  });
  return [...sectors];
}

/** The old header looks at something behind the first sector that is to be different. */
function isLookedAt(old: Uint8Array, target: Uint8Array, header: Header): boolean {
  const differs = (from: number, to: number): boolean => {
    for (let i = Math.max(from, SECTOR); i < to; i++) if (old[i] !== target[i]) return true;
    return false;
  };
  const { start, length } = nameOf(header);
  return differs(header.headerLength, header.extensionsEnd) || differs(start, start + length);
}
