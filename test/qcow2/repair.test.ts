// Repairs of images that contradict themselves in any way: the guest keeps what it sees, and what is
// left is what no repair can know.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { repairImage } from '../../src/qcow2/repair.ts';
import { readState } from '../../src/qcow2/repair-state.ts';
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

/** What a repair of everything leaves nothing of. */
const REPAIRABLE = /refcount=|refcount block|refcount table|Preallocated|is incomplete/;

async function expectRepaired(shape: Shape, changes: Damages, fix: 'leaks' | 'all'): Promise<void> {
  const bytes = damaged(await soundImage(shape), changes);
  const before = await guestView(bytes).catch(onlyImageErrors);
  if (before === undefined) return;
  const storage = new MemoryStorage(bytes);
  const told: string[] = [];
  const result = await repairImage(storage, fix, (message) => told.push(message)).catch(
    onlyImageErrors,
  );
  expect(lost(before, await guestView(storage.bytes()))).toEqual([]);
  expect(storage.size).toBeLessThan(2 ** 20);
  if (result === undefined || fix === 'leaks') return;
  const left: string[] = [];
  await checkImage(await readState(storage), (message) => left.push(message));
  // A refcount that can't say it is wrong for ever.
  if (left.some((message) => message.includes('overflow'))) return;
  expect(left.filter((message) => REPAIRABLE.test(message))).toEqual([]);
}

test.each(['leaks', 'all'] as const)('-r %s: random damage', { timeout: 120_000 }, (fix) =>
  fc.assert(
    fc.asyncProperty(shapes, damages, (shape, changes) => expectRepaired(shape, changes, fix)),
    { numRuns: Number(process.env['QR'] ?? 300), seed: Number(process.env['QS'] ?? 1) },
  ),
);
