// The header extension area: a list of typed byte strings. Unknown ones are kept as they are.

import { ImageError } from '../errors.ts';
import { alignUp } from '../units.ts';
import { readU64, viewOf, writeU64 } from './fields.ts';
import { EXTENSION, FEATURE_NAME_ENTRY } from './spec.ts';

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** Parses the area that starts at `start`; it ends with its end marker or at `end`. */
export function parseExtensions(
  bytes: Uint8Array,
  start: number,
  end: number,
): { readonly extensions: readonly HeaderExtension[]; readonly end: number } {
  const view = viewOf(bytes);
  const extensions: HeaderExtension[] = [];
  let position = start;
  while (position < end) {
    const isCut = position + 8 > end;
    const type = isCut ? 0 : view.getUint32(position);
    const length = isCut ? 0 : view.getUint32(position + 4);
    position += 8;
    if (isCut || length > end - position) {
      throw new ImageError('corrupt', 'Header extension too large');
    }
    if (type === EXTENSION.end) return { extensions, end: position };
    extensions.push({ type, data: bytes.slice(position, position + length) });
    position += alignUp(length, 8);
  }
  return { extensions, end: Math.min(position, end) };
}

export function findExtension(
  extensions: readonly HeaderExtension[],
  type: number,
): Uint8Array | undefined {
  return extensions.find((extension) => extension.type === type)?.data;
}

/** Bytes of the area, end marker included. */
export function encodeExtensions(extensions: readonly HeaderExtension[]): Uint8Array {
  const length = extensions.reduce((sum, { data }) => sum + 8 + alignUp(data.length, 8), 8);
  const bytes = new Uint8Array(length);
  const view = viewOf(bytes);
  let position = 0;
  for (const { type, data } of extensions) {
    view.setUint32(position, type);
    view.setUint32(position + 4, data.length);
    bytes.set(data, position + 8);
    position += 8 + alignUp(data.length, 8);
  }
  return bytes;
}

export interface FeatureName {
  readonly type: number;
  readonly bit: number;
  readonly name: string;
}

/** "Feature name table". */
export function parseFeatureNames(data: Uint8Array): readonly FeatureName[] {
  const { length, typeOffset, bitOffset, nameOffset } = FEATURE_NAME_ENTRY;
  const names: FeatureName[] = [];
  for (let start = 0; start + length <= data.length; start += length) {
    const entry = data.subarray(start, start + length);
    names.push({
      type: entry[typeOffset] ?? 0,
      bit: entry[bitOffset] ?? 0,
      name: new TextDecoder().decode(entry.subarray(nameOffset)).replace(/\0.*$/s, ''),
    });
  }
  return names;
}

export function encodeFeatureNames(names: readonly FeatureName[]): Uint8Array {
  const { length, typeOffset, bitOffset, nameOffset } = FEATURE_NAME_ENTRY;
  const data = new Uint8Array(names.length * length);
  names.forEach(({ type, bit, name }, i) => {
    data[i * length + typeOffset] = type;
    data[i * length + bitOffset] = bit;
    data.set(new TextEncoder().encode(name), i * length + nameOffset);
  });
  return data;
}

/** "Bitmaps extension". */
export interface BitmapsExtension {
  readonly nbBitmaps: number;
  readonly reserved: number;
  readonly directorySize: number;
  readonly directoryOffset: number;
}

export function parseBitmapsExtension(data: Uint8Array): BitmapsExtension {
  if (data.length !== 24) throw new ImageError('corrupt', 'bitmaps_ext: Invalid extension length');
  const view = viewOf(data);
  return {
    nbBitmaps: view.getUint32(0),
    reserved: view.getUint32(4),
    directorySize: readU64(view, 8, 'bitmap directory size'),
    directoryOffset: readU64(view, 16, 'bitmap directory offset'),
  };
}

export function encodeEncryptionHeader(area: { offset: number; length: number }): Uint8Array {
  const data = new Uint8Array(16);
  writeU64(viewOf(data), 0, area.offset);
  writeU64(viewOf(data), 8, area.length);
  return data;
}

export function encodeBitmapsExtension(extension: Omit<BitmapsExtension, 'reserved'>): Uint8Array {
  const data = new Uint8Array(24);
  const view = viewOf(data);
  view.setUint32(0, extension.nbBitmaps);
  writeU64(view, 8, extension.directorySize);
  writeU64(view, 16, extension.directoryOffset);
  return data;
}

/** "Full disk encryption header pointer". */
export function parseEncryptionHeader(data: Uint8Array): { offset: number; length: number } {
  if (data.length !== 16) {
    throw new ImageError(
      'corrupt',
      `CRYPTO header extension size ${data.length}, but expected size 16`,
    );
  }
  const view = viewOf(data);
  return {
    offset: readU64(view, 0, 'encryption header offset'),
    length: readU64(view, 8, 'encryption header length'),
  };
}
