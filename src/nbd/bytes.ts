// Big-endian numbers and strings in and out of byte arrays.

import { joinU64 } from '../units.ts';

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** An offset or length of 64 bits; past 2^53 it is not exact, and past any disk. */
export function readU64(view: DataView, at: number): number {
  return joinU64(view.getUint32(at), view.getUint32(at + 4));
}

/** `value` is a safe integer, not negative. */
export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 0x1_0000_0000));
  view.setUint32(at + 4, value % 0x1_0000_0000);
}

/** Numbers of 4 bytes each. */
export function u32s(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = viewOf(bytes);
  for (const [i, value] of values.entries()) view.setUint32(4 * i, value);
  return bytes;
}

export function u16(value: number): Uint8Array {
  return Uint8Array.of((value >> 8) & 0xff, value & 0xff);
}

export function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  writeU64(viewOf(bytes), 0, value);
  return bytes;
}

export const encodeText = (text: string): Uint8Array => new TextEncoder().encode(text);
export const decodeText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

export function joined(...pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
