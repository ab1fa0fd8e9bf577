// An error while the next copy waits for the rate ends that wait.

import { expect, test } from 'vitest';
import { carryOut } from '../../src/commit/copy.ts';
import type { PlanStep } from '../../src/commit/plan.ts';
import { Meter } from '../../src/commit/progress.ts';
import { RateLimit } from '../../src/io/throttle.ts';
import { FakeLayer } from '../support/fake-layer.ts';
import { SimulatedHost } from '../support/simulated-host.ts';

test('an error is told at once, not after the wait of the next copy', async () => {
  const host = new SimulatedHost();
  const base = new FakeLayer('base', []);
  base.writeFrom = async () => {
    throw new Error('broken disk');
  };
  const source = new FakeLayer('top', []);
  const length = 500_000;
  const steps = [0, length].map((offset): PlanStep => {
    const place = { storage: source.storage, offset };
    const piece = { kind: 'data' as const, offset, length, layer: source, host: place };
    return { kind: 'copy', offset, length, pieces: [piece] };
  });
  async function* plan(): AsyncGenerator<readonly PlanStep[]> {
    yield steps;
  }
  const started = host.now();
  const rateLimit = new RateLimit(1000, host);
  const meter = new Meter(host, 2 * length, undefined);
  await expect(carryOut(plan(), base, { meter, rateLimit })).rejects.toThrow();
  // The first copy waits 500 s for its turn and fails; the second one need not wait any more.
  expect((host.now() - started) / 1000).toBeLessThan(510);
});
