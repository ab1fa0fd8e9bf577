// Rewrites the backing file name and format in an image's header, so that at every instant the
// header names either the old backing file or the new one.
//
// The switch is one write of the first sector: backing_file_offset, backing_file_size and (where it
// lies there) the format extension. Before it, the new name is written where neither the old name
// nor the extensions lie, and made durable.

import { ImageError } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { SECTOR } from '../units.ts';
import { encodeExtensions, type HeaderExtension } from './extensions.ts';
import { writeField } from './fields.ts';
import { type Header, headerClusterSize, parseHeader } from './header.ts';
import { EXTENSION, HEADER, MAX_BACKING_NAME } from './spec.ts';

interface NewHeaderCluster {
  readonly bytes: Uint8Array;
  readonly nameOffset: number;
  readonly nameLength: number;
}

/** Refuses, before anything is written, a name that has no room in the header cluster. */
export async function checkBackingFits(
  storage: Storage,
  name: string,
  format: string,
): Promise<void> {
  layOut(await readCluster(storage), name, format, storage.filename);
}

/** Durable when it resolves. The file must be open for writing; its tables are not touched. */
export async function rewriteBacking(
  storage: Storage,
  name: string,
  format: string,
): Promise<void> {
  const old = await readCluster(storage);
  const { bytes, nameOffset, nameLength } = layOut(old, name, format, storage.filename);
  // 1. What nothing points to yet: the name.
  const nameEnd = nameOffset + nameLength;
  if (nameOffset >= SECTOR) {
    await storage.write(nameOffset, bytes.subarray(nameOffset, nameEnd), 'header');
    await storage.flush();
  }
  // 2. The rest of the header area, where it changed: last the first sector, which switches.
  const end = lastDifference(old, bytes, nameOffset) + 1;
  if (end > SECTOR) {
    await storage.write(SECTOR, bytes.subarray(SECTOR, end), 'header');
    await storage.flush();
  }
  await storage.write(0, bytes.subarray(0, SECTOR), 'header');
  await storage.flush();
}

async function readCluster(storage: Storage): Promise<Uint8Array> {
  const start = new Uint8Array(SECTOR);
  await storage.read(0, start);
  const cluster = new Uint8Array(headerClusterSize(start));
  await storage.read(0, cluster);
  return cluster;
}

/** The header cluster with the new name; everything else, unknown extensions too, stays. */
function layOut(old: Uint8Array, name: string, format: string, filename: string): NewHeaderCluster {
  const header = parseHeader(old);
  const nameBytes = new TextEncoder().encode(name);
  const extensions = encodeExtensions(withFormat(header.extensions, format));
  const extensionsEnd = header.headerLength + extensions.length;
  const nameOffset = findRoom(header, extensionsEnd, nameBytes.length, old.length);
  if (nameBytes.length > MAX_BACKING_NAME || nameOffset === undefined) {
    throw new ImageError(
      'invalid',
      `${filename}: the header has no room for the backing file name '${name}'`,
    );
  }
  const bytes = old.slice();
  bytes.set(extensions, header.headerLength);
  bytes.set(nameBytes, nameOffset);
  writeField(bytes, HEADER.backingFileOffset, nameOffset);
  writeField(bytes, HEADER.backingFileSize, nameBytes.length);
  return { bytes, nameOffset, nameLength: nameBytes.length };
}

/**
 * Where the new name goes: outside of the old one, so that the old header stays valid until the
 * switch. A name within the first sector switches together with it and may lie anywhere.
 */
function findRoom(
  header: Header,
  extensionsEnd: number,
  length: number,
  clusterSize: number,
): number | undefined {
  if (extensionsEnd + length <= SECTOR) return extensionsEnd;
  const oldStart = header.backingFileOffset;
  const oldEnd = oldStart + header.backingFileSize;
  const beyond = Math.max(extensionsEnd, SECTOR, oldStart === 0 ? 0 : oldEnd);
  if (beyond + length <= clusterSize) return beyond;
  const before = Math.max(extensionsEnd, SECTOR);
  if (oldStart !== 0 && before + length <= oldStart) return before;
  return extensionsEnd + length <= clusterSize ? extensionsEnd : undefined;
}

/** The format goes first, into the first sector; one that is there is replaced in its place. */
function withFormat(extensions: readonly HeaderExtension[], format: string): HeaderExtension[] {
  const data = new TextEncoder().encode(format);
  const isFormat = ({ type }: HeaderExtension) => type === EXTENSION.backingFormat;
  const entry: HeaderExtension = { type: EXTENSION.backingFormat, data };
  if (!extensions.some(isFormat)) return [entry, ...extensions];
  return extensions.map((extension) => (isFormat(extension) ? entry : extension));
}

/** The last byte that differs, the name itself left out; -1 if none. */
function lastDifference(old: Uint8Array, bytes: Uint8Array, nameOffset: number): number {
  for (let i = Math.max(nameOffset, SECTOR) - 1; i >= 0; i--) {
    if (old[i] !== bytes[i]) return i;
  }
  return -1;
}
