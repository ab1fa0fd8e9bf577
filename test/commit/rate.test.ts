// The rate limit of a commit, on a clock that only sleeping moves.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions } from '../../src/commit/options.ts';
import type { CommitProgress } from '../../src/commit/progress.ts';
import { RateLimit } from '../../src/io/throttle.ts';
import { MIB } from '../../src/units.ts';
import { expectBytes, viewThrough } from '../support/memory-images.ts';
import { addImage, type NamedImage } from '../support/named-images.ts';
import { SimulatedHost } from '../support/simulated-host.ts';
import { pattern } from '../support/storage-contract.ts';

async function hostWith(mib: number, top: NamedImage = { filled: 1 }): Promise<SimulatedHost> {
  const host = new SimulatedHost();
  const shape = { size: mib * MIB, clusterSize: 65536 };
  await addImage(host, '/base', shape);
  await addImage(host, '/top', { ...shape, ...top, backingFile: 'base', backingFormat: 'qcow2' });
  return host;
}

async function secondsOf(
  host: SimulatedHost,
  options: Omit<CommitOptions, 'host'>,
): Promise<number> {
  const started = host.now();
  await commit('/top', { host, ...options });
  return (host.now() - started) / 1000;
}

test.each([
  [2, 1, 2.0, 2.2],
  [4, 1, 4.0, 4.1],
  [4, 2, 2.0, 2.1],
])('%d MiB at %d MiB/s', async (mib, rate, least, most) => {
  const seconds = await secondsOf(await hostWith(mib), { rateLimit: rate * MIB });
  expect(seconds).toBeGreaterThanOrEqual(least);
  expect(seconds).toBeLessThanOrEqual(most);
});

test('without a limit nobody sleeps', async () => {
  expect(await secondsOf(await hostWith(2), {})).toBe(0);
  expect(await secondsOf(await hostWith(2), { rateLimit: 0 })).toBe(0);
});

test('the bytes are right all the same', async () => {
  const host = await hostWith(2);
  await commit('/top', { host, rateLimit: MIB });
  expectBytes(await viewThrough(host, '/base'), pattern(2 * MIB, 1));
});

test('zeros are free', async () => {
  const host = await hostWith(2, {});
  const chain = await openChain('/top', { host, writable: true });
  await chain.top.zero(0, 2 * MIB);
  await chain.close();
  expect(await secondsOf(host, { rateLimit: 1 })).toBe(0);
});

test('a new rate takes effect while it runs', async () => {
  const host = await hostWith(4);
  const rateLimit = new RateLimit(MIB, host);
  const started = host.now();
  host.onWake = () => {
    if (rateLimit.rate === MIB && host.now() - started >= 1000) rateLimit.setRate(10 * MIB);
  };
  const seconds = await secondsOf(host, { rateLimit });
  // One second for the first MiB, then three at ten times the rate.
  expect(seconds).toBeGreaterThanOrEqual(1.25);
  expect(seconds).toBeLessThanOrEqual(1.6);
});

test('switching the limit off lets it run free', async () => {
  const host = await hostWith(4);
  const rateLimit = new RateLimit(MIB / 2, host);
  host.onWake = () => rateLimit.setRate(0);
  const seconds = await secondsOf(host, { rateLimit });
  expect(seconds).toBeGreaterThan(0);
  expect(seconds).toBeLessThanOrEqual(1.1);
});

test('progress tells the rate and the time that is left', async () => {
  const host = await hostWith(4);
  const seen: CommitProgress[] = [];
  await commit('/top', {
    host,
    rateLimit: MIB,
    onProgress: (progress) => void seen.push(progress),
  });
  expect(seen[0]).toEqual({ done: 0, total: 4 * MIB, rate: 0, secondsLeft: undefined });
  const half = seen.find(({ done }) => done >= 2 * MIB);
  expect(half?.rate).toBeGreaterThan(0.9 * MIB);
  expect(half?.rate).toBeLessThan(1.3 * MIB);
  expect(half?.secondsLeft).toBeCloseTo(2, 0);
  expect(seen.at(-1)).toMatchObject({ done: 4 * MIB, total: 4 * MIB, secondsLeft: 0 });
});
