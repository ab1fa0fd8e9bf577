// Header clusters whose backing pointer gets rewritten, and what they say at each instant of it.

import { expect } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { rewriteBacking } from '../../src/qcow2/backing.ts';
import { encodeFeatureNames, type HeaderExtension } from '../../src/qcow2/extensions.ts';
import { encodeHeader, type NewHeader, parseHeader } from '../../src/qcow2/header.ts';
import { EXTENSION, FEATURE_NAMES } from '../../src/qcow2/spec.ts';
import { SOUND } from './headers.ts';
import { afterCrash, type Change, WatchedStorage } from './watched-host.ts';

const ascii = (text: string) => new TextEncoder().encode(text);
export const format = (name: string): HeaderExtension => ({
  type: EXTENSION.backingFormat,
  data: ascii(name),
});
export const featureNames: HeaderExtension = {
  type: EXTENSION.featureNameTable,
  data: encodeFeatureNames(FEATURE_NAMES),
};
export const unknown = (length: number): HeaderExtension => ({
  type: 0x7777_7777,
  data: new Uint8Array(length).map((_, i) => i + 1),
});

export function imageFile(header: Partial<NewHeader>, base: NewHeader = SOUND): Uint8Array {
  const big = { clusterBits: 12, l1TableOffset: 3 * 4096, refcountTableOffset: 4096 };
  const whole: NewHeader = { ...base, ...big, ...header };
  const bytes = new Uint8Array(2 * 2 ** whole.clusterBits).fill(0xee, 2 ** whole.clusterBits);
  bytes.set(encodeHeader(whole));
  return bytes;
}

export async function rewritten(file: Uint8Array, name: string, format: string) {
  const changes: Change[] = [];
  const storage = new MemoryStorage(file, { filename: 'top' });
  const watched = new WatchedStorage(storage, (change) => void changes.push(change));
  await rewriteBacking(watched, name, format);
  return { bytes: storage.bytes(), changes };
}

export interface Pointer {
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
}

export function pointerIn(bytes: Uint8Array | undefined): Pointer {
  const { backingFile, backingFormat } = parseHeader(bytes ?? new Uint8Array());
  return { backingFile, backingFormat };
}

/** After each change and each crash: the old pointer or the new one, and all else as before. */
export async function expectOldOrNewThroughout(
  file: Uint8Array,
  changes: readonly Change[],
  to: Pointer,
) {
  const from = pointerIn(file);
  const others = (bytes: Uint8Array) =>
    parseHeader(bytes).extensions.filter(({ type }) => type !== EXTENSION.backingFormat);
  for (let count = 0; count <= changes.length; count++) {
    for (const coin of coins()) {
      const files = await afterCrash(new Map([['top', file]]), changes, count, coin);
      const survivor = files.get('top') ?? new Uint8Array();
      expect([from, to]).toContainEqual(pointerIn(survivor));
      expect(others(survivor)).toEqual(others(file));
    }
  }
}

/** Everything, nothing, and each other sector of what was not flushed survives. */
function* coins(): Generator<() => boolean> {
  yield () => true;
  yield () => false;
  for (const parity of [0, 1]) {
    let n = 0;
    yield () => n++ % 2 === parity;
  }
}
