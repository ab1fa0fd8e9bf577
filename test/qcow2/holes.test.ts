// Which parts of a file are holes, by as few questions as possible.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { Holes } from '../../src/qcow2/holes.ts';

/** Data and holes of so many bytes take turns, from data on; questions are counted. */
function striped(stripe: number, size: number): { storage: MemoryStorage; asked: () => number } {
  let asked = 0;
  const extentAt = async (offset: number) => {
    asked++;
    const index = Math.floor(offset / stripe);
    return { data: index % 2 === 0, end: Math.min(size, (index + 1) * stripe) };
  };
  const storage = Object.assign(new MemoryStorage(new Uint8Array(size)), { extentAt });
  return { storage, asked: () => asked };
}

test('a part is a hole where all of it is', async () => {
  const holes = new Holes(striped(1000, 10_000).storage);
  expect(await holes.has(1000, 1000)).toBe(true);
  expect(await holes.has(1500, 501)).toBe(false);
  expect(await holes.has(999, 10)).toBe(false);
  expect(await holes.has(9990, 500)).toBe(true);
  expect(await holes.has(20_000, 1)).toBe(true);
});

test('a run is asked about once', async () => {
  const { storage, asked } = striped(500_000, 1_000_000);
  const holes = new Holes(storage);
  for (let at = 0; at < 1_000_000; at += 512) await holes.has(at, 512);
  expect(asked()).toBe(2);
});

test('in a file of short holes reading is cheaper than asking', async () => {
  const { storage, asked } = striped(512, 2_000_000);
  const holes = new Holes(storage);
  let answers = 0;
  for (let at = 0; at < 2_000_000; at += 512) {
    const index = at / 512;
    const isHole = await holes.has(at, 512);
    if (isHole) answers++;
    // It may not know, but it is never wrong.
    expect(isHole && index % 2 === 0).toBe(false);
  }
  expect(asked()).toBeLessThan(500);
  expect(answers).toBeGreaterThan(0);
});

test('what is about to be written to, or is cut off, hides nothing', async () => {
  const { storage } = striped(1000, 10_000);
  expect(await new Holes(storage).hides(1000, 1000)).toBe(false);
  const reading = Object.create(storage, { writable: { value: false }, size: { value: 10_000 } });
  const holes = new Holes(reading as MemoryStorage);
  expect(holes.areKnownToHide(1000, 1000)).toBe(false);
  expect(await holes.hides(1000, 1000)).toBe(true);
  expect(holes.areKnownToHide(1000, 1000)).toBe(true);
  expect(await holes.hides(9500, 1000)).toBe(false);
});
