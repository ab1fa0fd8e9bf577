// Rewrites the backing file name and format in an image's header, so that at every instant the
// header names either the old backing file or the new one.
//
// The switch is one write of the first sector: backing_file_offset, backing_file_size and the
// extensions that lie there. Before it comes, each made durable, what the old header does not look
// at: the new name, and extensions that get to lie behind the first sector. Where some lie there
// already, the feature name table goes before, so that they don't, and comes back with the switch.

import { ImageError } from '../errors.ts';
import { decodeName, encodeName } from '../io/name-bytes.ts';
import type { Storage } from '../io/storage.ts';
import { SECTOR } from '../units.ts';
import { encodeExtensions, type HeaderExtension } from './extensions.ts';
import { writeField } from './fields.ts';
import { type Header, parseHeader } from './header.ts';
import { readHeaderCluster } from './header-cluster.ts';
import { EXTENSION, HEADER, MAX_BACKING_NAME } from './spec.ts';

/** One write to the header cluster. */
interface Patch {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** What a header is to say. */
export interface BackingPointer {
  readonly name: string;
  readonly format: string;
  /** What it stood on, to be found by who removes that; see `leftBehind`. Default: nothing. */
  readonly left?: string;
}

/**
 * Ours, for as long as files are being removed that nothing leads to any more: the name of what the
 * image stood on. Everybody else keeps it as an unknown extension.
 */
const LEFT_BEHIND = 0x7169_6d67;

/** The name of a backing file that was to be removed once the header named another one. */
export function leftBehind({ extensions }: Header): string | null {
  const data = extensions.find(isLeft)?.data;
  return data === undefined ? null : decodeName(data);
}

const isLeft = ({ type }: HeaderExtension): boolean => type === LEFT_BEHIND;

/** Refuses, before anything is written, a name that has no room in the header cluster. */
export async function checkBackingFits(storage: Storage, pointer: BackingPointer): Promise<void> {
  patchesFor(await readHeaderCluster(storage), pointer, storage.filename);
}

/** Durable when it resolves. The file must be open for writing; its tables are not touched. */
export async function rewriteBacking(storage: Storage, pointer: BackingPointer): Promise<void> {
  const old = await readHeaderCluster(storage);
  await carryOut(storage, patchesFor(old, pointer, storage.filename));
}

/** The image stands on nothing any more: the same, in one write. */
export async function removeBacking(storage: Storage): Promise<void> {
  await carryOut(storage, [withoutName(await readHeaderCluster(storage))]);
}

async function carryOut(storage: Storage, patches: readonly Patch[]): Promise<void> {
  for (const { offset, bytes } of patches) {
    await storage.write(offset, bytes, 'header');
    await storage.flush();
  }
}

/**
 * The format goes with the name, where the extensions lie in the first sector. Where they don't, it
 * stays, as does the offset, which may be where they end: an empty name is none.
 */
function withoutName(old: Uint8Array): Patch {
  const sector = old.slice(0, SECTOR);
  const { headerLength, extensions, extensionsEnd } = parseHeader(old);
  writeField(sector, HEADER.backingFileSize, 0);
  const left = encodeExtensions(
    extensions.filter((extension) => !isFormat(extension) && !isLeft(extension)),
  );
  const end = headerLength + left.length;
  if (end <= SECTOR) {
    sector.set(left, headerLength);
    sector.fill(0, end, Math.max(end, Math.min(extensionsEnd, SECTOR)));
    writeField(sector, HEADER.backingFileOffset, 0);
  }
  return { offset: 0, bytes: sector };
}

function isFormat({ type }: HeaderExtension): boolean {
  return type === EXTENSION.backingFormat;
}

/** The writes that bring the new name in; everything else, unknown extensions too, stays. */
function patchesFor(old: Uint8Array, pointer: BackingPointer, filename: string): readonly Patch[] {
  const rewrite = new HeaderRewrite(old, pointer, filename);
  rewrite.placeTail();
  rewrite.placeName();
  return rewrite.patches;
}

class HeaderRewrite {
  readonly patches: Patch[] = [];
  readonly #cluster: Uint8Array;
  readonly #header: Header;
  readonly #name: Uint8Array;
  readonly #extensions: Uint8Array;
  readonly #extensionsEnd: number;
  readonly #refuse: (why: string) => ImageError;
  /** Where the name lies that the header names after the patches so far. */
  #inUse: Range;
  /** Where its extensions end. */
  #usedEnd: number;

  constructor(old: Uint8Array, pointer: BackingPointer, filename: string) {
    const { name } = pointer;
    this.#refuse = (why) =>
      new ImageError(
        'invalid',
        `${filename}: the header has no room to change the backing file to '${name}': ${why}`,
      );
    this.#cluster = old.slice();
    this.#header = parseHeader(old);
    this.#inUse = nameOf(this.#header);
    this.#usedEnd = this.#header.extensionsEnd;
    this.#name = encodeName(name);
    this.#extensions = encodeExtensions(extensionsWith(this.#header.extensions, pointer));
    this.#extensionsEnd = this.#header.headerLength + this.#extensions.length;
    if (this.#name.length > MAX_BACKING_NAME) throw this.#refuse('the name is too long');
    if (this.#extensionsEnd > old.length) throw this.#refuse('its extensions fill it');
  }

  /** The part of the extensions that lies behind the first sector, where it is new. */
  placeTail(): void {
    const { headerLength } = this.#header;
    const start = Math.max(SECTOR, headerLength);
    const tail = this.#extensions.slice(start - headerLength);
    if (equals(tail, this.#cluster.subarray(start, start + tail.length))) return;
    if (this.#header.extensionsEnd > SECTOR) this.#dropFeatureNames();
    if (this.#inUse.end > SECTOR && this.#inUse.start < this.#extensionsEnd) this.#moveName();
    this.#put(start, tail);
  }

  /**
   * For a while, the header does without the feature name table, which is there for messages alone,
   * so that it looks at nothing behind the first sector but the name.
   */
  #dropFeatureNames(): void {
    const { headerLength, extensions } = this.#header;
    const left = extensions.filter(({ type }) => type !== EXTENSION.featureNameTable);
    const bytes = encodeExtensions(left);
    if (headerLength + bytes.length > SECTOR) {
      throw this.#refuse('its extensions reach past what can be written at once');
    }
    this.#cluster.set(bytes, headerLength);
    this.#usedEnd = headerLength + bytes.length;
    this.patches.push({ offset: 0, bytes: this.#cluster.slice(0, SECTOR) });
  }

  /** The name in use makes room. */
  #moveName(): void {
    const { start, end } = this.#inUse;
    // Without an end marker the extensions end where the name starts: it can't go elsewhere.
    const marker = this.#cluster.subarray(this.#usedEnd - 8, this.#usedEnd);
    if (marker.some((byte) => byte !== 0)) throw this.#refuse('its extensions have no end');
    const place = this.#roomFor(end - start);
    this.#put(place, this.#cluster.slice(start, end));
    this.#switch(place, end - start);
  }

  placeName(): void {
    const { length } = this.#name;
    // In the first sector the name comes with the switch itself.
    const together = this.#extensionsEnd + length <= SECTOR;
    const place = together ? this.#extensionsEnd : this.#roomFor(length);
    if (!together) this.#put(place, this.#name);
    const start = this.#header.headerLength;
    this.#cluster.set(this.#extensions.subarray(0, Math.max(0, SECTOR - start)), start);
    if (together) this.#cluster.set(this.#name, place);
    this.#switch(place, length);
  }

  /** Where `length` bytes can lie: behind both extension areas, apart from the name in use. */
  #roomFor(length: number): number {
    const first = Math.max(this.#extensionsEnd, this.#header.extensionsEnd, SECTOR);
    const isFree = first + length <= this.#inUse.start;
    const place = isFree ? first : Math.max(first, this.#inUse.end);
    if (place + length <= this.#cluster.length) return place;
    throw this.#refuse('the old name has to stay until the new one is there');
  }

  #put(offset: number, bytes: Uint8Array): void {
    this.#cluster.set(bytes, offset);
    this.patches.push({ offset, bytes });
  }

  #switch(offset: number, length: number): void {
    writeField(this.#cluster, HEADER.backingFileOffset, offset);
    writeField(this.#cluster, HEADER.backingFileSize, length);
    this.patches.push({ offset: 0, bytes: this.#cluster.slice(0, SECTOR) });
    this.#inUse = { start: offset, end: offset + length };
  }
}

function nameOf({ backingFileOffset: start, backingFileSize: length }: Header): Range {
  return { start, end: start === 0 ? 0 : start + length };
}

function equals(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** The format goes first, into the first sector; one that is there is replaced in its place. */
function extensionsWith(
  old: readonly HeaderExtension[],
  { format, left }: BackingPointer,
): readonly HeaderExtension[] {
  const data = new TextEncoder().encode(format);
  const entry: HeaderExtension = { type: EXTENSION.backingFormat, data };
  const note = left === undefined ? [] : [{ type: LEFT_BEHIND, data: encodeName(left) }];
  const kept = old.filter((extension) => !isLeft(extension));
  if (!kept.some(isFormat)) return [entry, ...note, ...kept];
  return [...kept.map((extension) => (isFormat(extension) ? entry : extension)), ...note];
}
