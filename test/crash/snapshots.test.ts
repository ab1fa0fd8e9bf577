// A power cut while a snapshot is taken, gone back to or deleted: at every moment there is either
// the state before or the one after, whole, and a check finds leaks at most.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { CrashHost, randomFrom } from '../support/crash.ts';
import { viewOf } from '../support/memory-images.ts';
import { expectSnapshots, SnapshotModel } from '../support/snapshot-model.ts';
import { pattern } from '../support/storage-contract.ts';

const SECTOR = 512;
const SECTORS = 200;
const NOW = { seconds: 1_700_000_000, nanoseconds: 0 };

const cases = fc.record({
  version: fc.constantFrom(2 as const, 3 as const, 3 as const),
  clusterSize: fc.constantFrom(512, 512, 1024),
  refcountBits: fc.constantFrom(8, 16, 64),
  /** Snapshots that there are, with what is written before each and after the last. */
  before: fc.array(
    fc.array(fc.record({ at: fc.nat(SECTORS - 1), count: fc.integer({ min: 1, max: 60 }) }), {
      maxLength: 3,
    }),
    { minLength: 2, maxLength: 4 },
  ),
  kind: fc.constantFrom('create' as const, 'apply' as const, 'delete' as const),
  pick: fc.nat(2),
  seed: fc.nat(),
});

/** What a state shows: findings that are no leaks, the disk, and snapshots by name. */
async function expectOneOf(
  file: Uint8Array,
  models: readonly SnapshotModel[],
  withSnapshots: boolean,
): Promise<void> {
  const image = await Qcow2Image.open(new MemoryStorage(file));
  const findings: string[] = [];
  const { corruptions, checkErrors } = await checkImage(image, (text) => findings.push(text));
  expect({ corruptions, checkErrors, findings }).toMatchObject({ corruptions: 0, checkErrors: 0 });
  const shown = await viewOf(image);
  const names = (await image.snapshots()).map(({ name }) => name).join();
  const model = models.find(
    ({ disk, snapshots }) =>
      Buffer.compare(disk, shown) === 0 && snapshots.map(({ name }) => name).join() === names,
  );
  expect(model, `disk and list (${names}) are those before or those after`).toBeDefined();
  if (withSnapshots && model !== undefined) {
    await expectSnapshots(file, model, { leaks: true });
  }
}

test('before or after, nothing in between', { timeout: 120_000 }, () =>
  fc.assert(
    fc.asyncProperty(cases, async ({ before, kind, pick, seed, ...shape }) => {
      const host = new CrashHost(new Map<string, Uint8Array>());
      const storage = await host.createStorage('image');
      const refcountBits = shape.version === 2 ? 16 : shape.refcountBits;
      const image = await createImage(storage, { ...shape, refcountBits, size: SECTORS * SECTOR });
      const model = new SnapshotModel(SECTORS * SECTOR);
      for (const [i, writes] of before.entries()) {
        for (const [n, { at, count }] of writes.entries()) {
          const bytes = pattern(Math.min(count, SECTORS - at) * SECTOR, i * 10 + n + 1);
          await image.write(at * SECTOR, bytes);
          model.disk.set(bytes, at * SECTOR);
        }
        if (i === before.length - 1) continue;
        await createSnapshot(image, { name: `s${i}`, ...NOW });
        model.create(`s${i}`);
      }
      await image.flush();
      const started = host.length;
      const after = model.copy();
      const name = `s${pick % (before.length - 1)}`;
      if (kind === 'create') await createSnapshot(image, { name: 'new', ...NOW });
      else await (kind === 'apply' ? applySnapshot : deleteSnapshot)(image, name);
      if (kind === 'create') after.create('new');
      else if (kind === 'apply') after.apply(name);
      else after.delete(name);
      const ended = host.length;
      await image.close();

      const random = randomFrom(seed);
      for (const { at, files } of host.states(4, random)) {
        if (at < started) continue;
        const file = files.get('image') ?? new Uint8Array();
        // Once the call is back, there is no way back.
        const possible = at >= ended ? [after] : [model, after];
        await expectOneOf(file, possible, random(8) === 0);
      }
    }),
    { numRuns: 30 },
  ),
);
