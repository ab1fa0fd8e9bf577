// The contract that is published for users' storages, run by our own test runner.

import { describe, test } from 'vitest';
import { storageContract as contractOf, type Place } from '../../src/testing.ts';

export { type Place, pattern } from '../../src/testing.ts';

/** `place`: a new one for each test, with `content` (padded with zeros where its size is fixed). */
export function storageContract(
  name: string,
  place: (content: Uint8Array) => Promise<Place>,
): void {
  describe(name, () => {
    for (const { name: promise, run } of contractOf(place)) test(promise, run);
  });
}
