// A power cut while an image is repaired: at every moment the guest sees what it saw, and another
// repair ends as well as the one that was cut off.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import type { Storage } from '../../src/io/storage.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { type Fix, repairImage } from '../../src/qcow2/repair.ts';
import { readState } from '../../src/qcow2/repair-state.ts';
import { CrashHost, randomFrom } from '../support/crash.ts';
import { REPAIRS } from '../support/crash-operations/repair.ts';
import { crashTests } from '../support/crash-tests.ts';
import {
  type Damages,
  damaged,
  damages,
  guestView,
  lost,
  onlyImageErrors,
  type Shape,
  shapes,
  soundImage,
} from '../support/damaged.ts';

/** What a check finds after a repair; undefined where there was none. */
async function leftBy(bytes: Uint8Array, fix: Fix): Promise<number | undefined> {
  const storage = new MemoryStorage(bytes);
  const result = await repairImage(storage, fix, () => undefined).catch(onlyImageErrors);
  return result && (await findings(storage));
}

/** What points past the end may come to lie inside a file that grew. */
async function findings(storage: Storage): Promise<number> {
  let count = 0;
  await checkImage(await readState(storage), (message) => {
    if (!message.includes('exceeding the end')) count++;
  });
  return count;
}

async function expectSafe(shape: Shape, changes: Damages, fix: Fix, seed: number): Promise<void> {
  const bytes = damaged(await soundImage(shape), changes);
  const before = await guestView(bytes).catch(onlyImageErrors);
  if (before === undefined) return;
  const host = new CrashHost(new Map([['image', bytes]]));
  const storage = await host.openStorage('image', { writable: true });
  const whole = await repairImage(storage, fix, () => undefined).catch(onlyImageErrors);
  if (whole === undefined) return;
  const end = await findings(storage);
  for (const { at, files } of host.states(3, randomFrom(seed))) {
    const file = files.get('image') ?? new Uint8Array();
    expect({ at, lost: lost(before, await guestView(file)) }).toEqual({ at, lost: [] });
    const left = await leftBy(file, fix);
    expect(left, `a repair after a cut at ${at}`).toBeDefined();
    expect(left).toBeLessThanOrEqual(end);
  }
}

crashTests(REPAIRS, { states: 12 });

test.each(['leaks', 'all'] as const)('-r %s: random damage', { timeout: 120_000 }, (fix) =>
  fc.assert(
    fc.asyncProperty(shapes, damages, fc.nat(), (shape, changes, seed) =>
      expectSafe(shape, changes, fix, seed),
    ),
    { numRuns: 25, seed: 1 },
  ),
);
