// What the cases of a contract are written with; a promise that was not kept is an error.

import type { Storage } from '../io/storage.ts';

/**
 * Bytes that differ from their neighbours, and between seeds; never zero, so that what was not
 * written shows. The same for the same `length` and `seed` (an integer).
 */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed + 1) * 0x9e37_79b1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = (state >>> 24) | 1;
  }
  return bytes;
}

/** @internal */
export function check(condition: boolean, broken: string): asserts condition {
  if (!condition) throw new Error(`Storage contract: ${broken}`);
}

/** @internal */
export async function contentOf(storage: Storage, offset: number, length: number) {
  // Not zeros, so that what a read leaves alone shows.
  const target = new Uint8Array(length).fill(0xee);
  await storage.read(offset, target);
  return target;
}

/** @internal */
export async function holds(storage: Storage, offset: number, expected: Uint8Array): Promise<void> {
  const content = await contentOf(storage, offset, expected.length);
  const at = content.findIndex((byte, i) => byte !== expected[i]);
  check(
    at < 0,
    `byte ${offset + at} reads as ${content[at]}, not ${expected[at]} ` +
      `(read of ${expected.length} bytes at ${offset})`,
  );
}

/**
 * Rejects with an ImageError of that code.
 *
 * @internal
 */
export async function refuses(
  change: () => Promise<unknown>,
  code: string,
  errno?: string,
): Promise<void> {
  const error = await change().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  check(error !== undefined, `it was not refused with '${code}'`);
  const found = error as { name?: unknown; code?: unknown; errno?: unknown };
  const right = found.name === 'ImageError' && found.code === code;
  if (right && (errno === undefined || found.errno === errno)) return;
  throw new Error(`Storage contract: refused otherwise than by an ImageError '${code}'`, {
    cause: error,
  });
}
