// Rebases of random images in memory: the view stays, the image is sound and stands on the new
// backing file, and nothing else changes.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { rebase } from '../../src/commit/rebase.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { digestsOf, filesOf } from '../support/memory-chains.ts';
import { expectBytes, expectSoundFile, viewThrough } from '../support/memory-images.ts';
import { buildRebase, rebaseCase, requestFor } from '../support/rebase-cases.ts';

test('the view stays, over any other backing file, and over none', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(rebaseCase, async (spec) => {
      const host = new MemoryHost();
      const built = await buildRebase(host, spec);
      const { image, backing, others } = built;
      const view = await viewThrough(host, image);
      const before = digestsOf(host, others);
      const planned = await rebase(image, { host, ...requestFor(built), dryRun: true });
      const done = await rebase(image, { host, ...requestFor(built) });
      expect({ ...planned, dryRun: false }).toEqual(done);
      expectBytes(await viewThrough(host, image), view, 'the view through the image');
      await expectSoundFile(host, image);
      expect(digestsOf(host, others)).toEqual(before);
      await using chain = await openChain(image, { host });
      expect(chain.layers[1]?.storedName ?? '').toBe(backing);
      expect(chain.layers[1]?.formatKnown ?? true).toBe(true);
      await chain.close();
      // Once more there is nothing left to do.
      const again = await rebase(image, { host, ...requestFor(built) });
      expect(again).toMatchObject({ comparedBytes: 0, copiedBytes: 0, zeroedBytes: 0 });
    }),
    { seed: 20, numRuns: 300 },
  ),
);

test('there and back again: the view stays', { timeout: 60_000 }, () =>
  fc.assert(
    fc.asyncProperty(rebaseCase, async (spec) => {
      const host = new MemoryHost();
      const built = await buildRebase(host, spec);
      const { image, others } = built;
      const view = await viewThrough(host, image);
      const old = spec.old.at(-2);
      const back = old && {
        backing: `layer${spec.old.length - 2}`,
        backingFormat: old.raw ? 'raw' : 'qcow2',
      };
      await rebase(image, { host, ...requestFor(built) });
      await rebase(image, { host, ...(back ?? { backing: '' }) });
      expectBytes(await viewThrough(host, image), view, 'the view through the image');
      await expectSoundFile(host, image);
      expect(filesOf(host, others).size).toBe(others.length);
    }),
    { seed: 21, numRuns: 100 },
  ),
);
