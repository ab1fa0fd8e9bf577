// Repairs of images that contradict themselves in any way: the guest keeps what it sees, and what is
// left is what no repair can know.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { repairImage } from '../../src/qcow2/repair.ts';
import { readState } from '../../src/qcow2/repair-state.ts';
import {
  CLUSTER,
  type Damages,
  damaged,
  damages,
  guestView,
  lost,
  onlyImageErrors,
  type Shape,
  shapes,
  soundImage,
  type View,
} from '../support/damaged.ts';
import { findingsIn } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

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
  if (left.length === 0) await expectWritable(storage, before);
}

/** A write changes what it is about, and nothing that shared a cluster with it. */
async function expectWritable(storage: MemoryStorage, before: View): Promise<void> {
  const image = await Qcow2Image.open(storage);
  // What could not be read (a zero flag in version 2) can't be written.
  const places = [3, 4, 40, 41, 90, 91].filter((at) => before[at] !== null);
  for (const at of places) await image.write(at * CLUSTER, pattern(CLUSTER, at));
  await image.close();
  const { messages } = await findingsIn(storage);
  // Of two guest clusters that shared one, the other comes to be its only user; and nobody looks at
  // refcounts past the end of the file, which grows.
  const harmless = /OFLAG_COPIED .* refcount=1$|^Leaked/;
  expect(messages.filter((message) => !harmless.test(message))).toEqual([]);
  const changed = lost(before, await guestView(storage.bytes()));
  expect(changed.filter((cluster) => !places.includes(cluster))).toEqual([]);
}

test.each(['leaks', 'all'] as const)('-r %s: random damage', { timeout: 120_000 }, (fix) =>
  fc.assert(
    fc.asyncProperty(shapes, damages, (shape, changes) => expectRepaired(shape, changes, fix)),
    { numRuns: 200, seed: 1 },
  ),
);
