// Header clusters whose backing pointer gets rewritten, and what they say at each instant of it.

import { expect } from 'vitest';
import { rewriteBacking } from '../../src/qcow2/backing.ts';
import { encodeFeatureNames, type HeaderExtension } from '../../src/qcow2/extensions.ts';
import { encodeHeader, type NewHeader, parseHeader } from '../../src/qcow2/header.ts';
import { EXTENSION, FEATURE_NAMES } from '../../src/qcow2/spec.ts';
import { CrashHost, randomFrom } from './crash.ts';
import { SOUND } from './headers.ts';

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

/** `host` has it on record. */
export async function rewritten(file: Uint8Array, name: string, format: string) {
  const host = new CrashHost(new Map([['top', file]]));
  await rewriteBacking(await host.openStorage('top', { writable: true }), { name, format });
  return { bytes: host.fileBytes('top') ?? new Uint8Array(), host };
}

export interface Pointer {
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
}

export function pointerIn(bytes: Uint8Array | undefined): Pointer {
  const { backingFile, backingFormat } = parseHeader(bytes ?? new Uint8Array());
  return { backingFile, backingFormat };
}

/** After each power cut: the old pointer or the new one, and all else as before. */
export function expectOldOrNewThroughout(file: Uint8Array, host: CrashHost, to: Pointer): void {
  const from = pointerIn(file);
  const others = (bytes: Uint8Array) =>
    parseHeader(bytes).extensions.filter(({ type }) => type !== EXTENSION.backingFormat);
  for (const { files } of host.states(300, randomFrom(1))) {
    const survivor = files.get('top') ?? new Uint8Array();
    expect([from, to]).toContainEqual(pointerIn(survivor));
    expect(others(survivor)).toEqual(others(file));
  }
}
