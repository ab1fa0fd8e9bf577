// A base that a killed writer with lazy refcounts left behind: also a commit that is cut off while
// the refcounts are rebuilt leaves the view, and another run completes it without corruption.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { viewOf as dataView, writeField } from '../../src/qcow2/fields.ts';
import { setRefcount } from '../../src/qcow2/refcount.ts';
import { HEADER, INCOMPATIBLE } from '../../src/qcow2/spec.ts';
import { buildChain, filesOf, type MemoryLayer, memoryChain } from '../support/memory-chains.ts';
import { expectBytes, findingsIn, viewThrough } from '../support/memory-images.ts';
import { afterCrash, type Change, hostWith, WatchedHost } from '../support/watched-host.ts';

/** Refcounts of the clusters that `lost` picks were never written. */
function makeDirty(bytes: Uint8Array, refcountBits: number, lost: (cluster: number) => boolean) {
  writeField(bytes, HEADER.incompatibleFeatures, INCOMPATIBLE.dirty);
  const clusterSize = 2 ** dataView(bytes).getUint32(HEADER.clusterBits.offset);
  const perBlock = (clusterSize * 8) / refcountBits;
  const table = Number(dataView(bytes).getBigUint64(HEADER.refcountTableOffset.offset));
  for (let cluster = 1; cluster < bytes.length / clusterSize; cluster++) {
    if (!lost(cluster)) continue;
    const block = Number(dataView(bytes).getBigUint64(table + Math.floor(cluster / perBlock) * 8));
    const part = bytes.subarray(block, block + clusterSize);
    setRefcount(part, cluster % perBlock, Math.log2(refcountBits), 0);
  }
}

/** Version 2 is never dirty; and a base that gets nothing is not written to, dirty or not. */
const isWritten = ([base, top]: readonly MemoryLayer[]) =>
  base?.raw === false && base.version === 3 && top !== undefined && top.operations.length > 0;

const cases = fc.record({
  layers: memoryChain(1, 1, fc.integer({ min: 1, max: 120 })).filter(isWritten),
  lost: fc.integer({ min: 1, max: 3 }),
  points: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 8, maxLength: 8 }),
  coin: fc.infiniteStream(fc.boolean()),
});

test('wherever it is cut off, the view stays and a rerun completes', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(cases, async ({ layers, lost, points, coin }) => {
      const host = new WatchedHost();
      const [base = '', top = ''] = await buildChain(host, layers);
      const bytes = host.fileBytes(base) ?? new Uint8Array();
      makeDirty(bytes, layers[0]?.refcountBits ?? 16, (cluster) => cluster % lost === 0);
      host.addFile(base, bytes);
      const view = await viewThrough(host, top);
      const before = filesOf(host, [base, top]);
      const changes: Change[] = [];
      host.watch = (change) => void changes.push(change);
      const { plan } = await commit(top, { host });
      expect(plan.rebuildsRefcounts).toBe(true);
      for (const point of points) {
        const count = Math.round(point * changes.length);
        const flip = () => coin.next().value === true;
        const files = await afterCrash(before, changes, count, flip);
        const survivor = hostWith(new MemoryHost(), files);
        expectBytes(await viewThrough(survivor, top), view, `after ${count} changes`);
        await commit(top, { host: survivor });
        expectBytes(await viewThrough(survivor, top), view, `rerun after ${count} changes`);
        expectBytes((await viewThrough(survivor, base)).subarray(0, view.length), view, 'base');
        for (const name of [base, top]) {
          const storage = await survivor.openStorage(name, { writable: false });
          expect((await findingsIn(storage)).corruptions).toBe(0);
        }
      }
    }),
    { numRuns: 40 },
  ),
);
