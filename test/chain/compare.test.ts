// Comparing two chains: the first sector that differs, and nothing but that.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type CompareOptions, compareChains } from '../../src/chain/compare.ts';
import { firstDifference, firstNonZero } from '../../src/chain/compare-bytes.ts';
import { openChain } from '../../src/chain/open.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { KIB, MIB } from '../../src/units.ts';
import { addImage } from '../support/named-images.ts';

test.each([
  [0, 1536],
  [511, 1536],
  [512, 1536],
  [1535, 1536],
  [1001, 1002],
])('a byte %i of %i that differs is found', (at, length) => {
  const [a, b] = [new Uint8Array(length), new Uint8Array(length)];
  expect(firstDifference(a, b)).toBeUndefined();
  expect(firstNonZero(a)).toBeUndefined();
  a[at] = 1;
  const sector = at - (at % 512);
  expect([firstDifference(a, b), firstDifference(b, a), firstNonZero(a)]).toEqual([
    sector,
    sector,
    sector,
  ]);
});

const SIZE = 5 * MIB;

/** Two raw disks; `changed` are bytes of the second one that differ. */
async function twoDisks(changed: readonly number[], sizes = [SIZE, SIZE] as const) {
  const host = new MemoryHost();
  const content = new Uint8Array(Math.max(...sizes));
  for (let at = 0; at < Math.min(...sizes); at += 100) content[at] = at;
  host.addFile('a', content.subarray(0, sizes[0]));
  for (const at of changed) content[at] = (content[at] ?? 0) + 1;
  host.addFile('b', content.subarray(0, sizes[1]));
  const options = { host, format: 'raw' };
  return [await openChain('a', options), await openChain('b', options)] as const;
}

async function compared(changed: readonly number[], sizes?: readonly [number, number]) {
  const [a, b] = await twoDisks(changed, sizes);
  return [await compareChains(a, b), await compareChains(b, a)];
}

test('what comes first on the disk is told, whatever is read first', () =>
  fc.assert(
    fc.asyncProperty(fc.array(fc.nat(SIZE - 1), { maxLength: 3 }), async (changed) => {
      const first = Math.min(...changed);
      const expected =
        changed.length === 0
          ? { result: 'identical' }
          : { result: 'content', offset: first - (first % 512) };
      expect(await compared([...new Set(changed)])).toEqual([expected, expected]);
    }),
    { seed: 1, numRuns: 25 },
  ));

test('what a longer disk has more must be zeros', async () => {
  const same = { result: 'identical' };
  expect(await compared([], [SIZE, MIB])).toEqual([same, same]);
  const differs = { result: 'content', offset: 2 * MIB };
  expect(await compared([2 * MIB + 5], [MIB, SIZE])).toEqual([differs, differs]);
  expect(await compared([], [0, 0])).toEqual([same, same]);
});

test('strict: sizes and allocation count', async () => {
  const strict = { strict: true };
  const [a, b] = await twoDisks([], [SIZE, MIB]);
  expect(await compareChains(a, b, strict)).toEqual({ result: 'size' });
  const host = new MemoryHost();
  await addImage(host, 'zeros');
  await addImage(host, 'empty');
  {
    await using image = await openChain('zeros', { host, writable: true });
    await image.zero(8192, 4096);
  }
  await using zeros = await openChain('zeros', { host });
  await using empty = await openChain('empty', { host });
  expect(await compareChains(zeros, empty)).toEqual({ result: 'identical' });
  expect(await compareChains(zeros, zeros, strict)).toEqual({ result: 'identical' });
  // The empty one is one range up to the end of the disk.
  expect(await compareChains(zeros, empty, strict)).toEqual({ result: 'status', offset: 0 });
});

test('progress ends at the size of the larger disk; the mismatch is told in between', async () => {
  const [a, b] = await twoDisks([], [SIZE, MIB]);
  const events: unknown[] = [];
  await compareChains(a, b, {
    onProgress: (done, total) => events.push([done, total]),
    onSizeMismatch: () => events.push('sizes'),
  });
  expect(events).toEqual([[MIB, SIZE], 'sizes', [3 * MIB, SIZE], [SIZE, SIZE]]);
});

/** The second disk can't be read at some offsets. */
async function failing(from: number, changed: readonly number[], options: CompareOptions = {}) {
  const [a, b] = await twoDisks(changed);
  const read = b.read.bind(b);
  b.read = (offset, target) =>
    offset + target.length > from
      ? Promise.reject(new ImageError('io', 'bad disk', { errno: 'EIO' }))
      : read(offset, target);
  return compareChains(a, b, options);
}

test('an error is told with its side and the start of its chunk', async () => {
  await expect(failing(3 * MIB, [])).rejects.toMatchObject({
    code: 'io',
    errno: 'EIO',
    side: 1,
    doing: 'read',
    offset: 2 * MIB,
  });
});

test('a difference before an error is found', async () => {
  const found = await failing(MIB, [300 * KIB]);
  expect(found).toEqual({ result: 'content', offset: 300 * KIB });
});

test('it stops when it is told to', async () => {
  const reason = new Error('enough');
  await expect(failing(SIZE, [], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});
