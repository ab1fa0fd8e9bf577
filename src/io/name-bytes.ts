// Names of files are bytes, ours are strings: a byte that is no part of valid UTF-8 becomes a low
// surrogate by itself, U+DC00 and its value, which no valid text holds. Pure.

const ESCAPES = 0xdc00;

/** The name as a string, such that `encodeName` gives the same bytes. */
export function decodeName(bytes: Uint8Array): string {
  try {
    return strictly(bytes);
  } catch {
    return piecewise(bytes);
  }
}

export function encodeName(name: string): Uint8Array {
  const encoder = new TextEncoder();
  if (!hasEscapes(name)) return encoder.encode(name);
  const bytes: number[] = [];
  for (const char of name) {
    if (isEscape(char)) bytes.push(char.charCodeAt(0) - ESCAPES);
    else bytes.push(...encoder.encode(char));
  }
  return Uint8Array.from(bytes);
}

/** The name holds bytes that are not UTF-8. */
export function hasEscapes(name: string): boolean {
  // The low half of a pair is no character by itself.
  return /[\udc80-\udcff]/.test(name) && [...name].some(isEscape);
}

function isEscape(char: string): boolean {
  return char.length === 1 && char >= '\udc80' && char <= '\udcff';
}

function strictly(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

const MAX_SEQUENCE = 4;

function piecewise(bytes: Uint8Array): string {
  let name = '';
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceAt(bytes, at);
    if (length === 0) name += String.fromCharCode(ESCAPES + (bytes[at] ?? 0));
    else name += strictly(bytes.subarray(at, at + length));
    at += Math.max(1, length);
  }
  return name;
}

/** Length of the character that begins there; 0 where none does. */
function sequenceAt(bytes: Uint8Array, at: number): number {
  for (let length = 1; length <= MAX_SEQUENCE && at + length <= bytes.length; length++) {
    try {
      strictly(bytes.subarray(at, at + length));
      return length;
    } catch {
      // Perhaps with one byte more.
    }
  }
  return 0;
}
