// Carrying out a plan: how much at once, what stops it, what it tells.

import { describe, expect, test } from 'vitest';
import { type CopyOptions, carryOut } from '../../src/commit/copy.ts';
import type { PlanStep } from '../../src/commit/plan.ts';
import { type CommitProgress, Meter } from '../../src/commit/progress.ts';
import { RateLimit } from '../../src/io/throttle.ts';
import { FakeLayer } from '../support/fake-layer.ts';
import { SimulatedHost } from '../support/simulated-host.ts';

const LENGTH = 1000;
const idle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A base that remembers what is asked of it and how much of it at once. */
class Base extends FakeLayer {
  readonly done: string[] = [];
  running = 0;
  most = 0;
  started = 0;
  onStep: (n: number) => void = () => undefined;

  constructor() {
    super('base', []);
  }

  async #work(word: string): Promise<void> {
    const n = this.started++;
    this.most = Math.max(this.most, ++this.running);
    try {
      for (let i = 0; i < 3; i++) await idle();
      this.onStep(n);
      this.done.push(word);
    } finally {
      this.running--;
    }
  }

  override write(...[offset, bytes]: unknown[]): Promise<void> {
    return this.#work(`write ${offset}+${(bytes as Uint8Array).length}`);
  }
  override zero(...[offset, length]: unknown[]): Promise<void> {
    return this.#work(`zero ${offset}+${length}`);
  }
  override writeFrom(offset: number, _source: unknown, length: number): Promise<void> {
    return this.#work(`copy ${offset}+${length}`);
  }
}

const source = new FakeLayer('top', []);

function copyStep(n: number): PlanStep {
  const [offset, length] = [n * LENGTH, LENGTH];
  const host = { storage: source.storage, offset };
  const piece = { kind: 'data' as const, offset, length, layer: source, host };
  return { kind: 'copy', offset, length, pieces: [piece] };
}

const zeroStep = (n: number): PlanStep => ({ kind: 'zero', offset: n * LENGTH, length: LENGTH });

async function* inBatches(steps: readonly PlanStep[]): AsyncGenerator<readonly PlanStep[]> {
  for (let i = 0; i < steps.length; i += 7) yield steps.slice(i, i + 7);
}

function run(
  base: Base,
  steps: readonly PlanStep[],
  more: Partial<CopyOptions> = {},
  tell?: (progress: CommitProgress) => void,
) {
  const host = new SimulatedHost();
  const rateLimit = new RateLimit(0, host);
  const meter = new Meter(host, steps.length * LENGTH, tell);
  return carryOut(inBatches(steps), base, { meter, rateLimit, ...more });
}

const many = (count: number, step = copyStep) => Array.from({ length: count }, (_, n) => step(n));

test.each([
  ['copies', copyStep],
  ['zeros', zeroStep],
])('eight %s at once, never more', async (_what, step) => {
  const base = new Base();
  await run(base, many(40, step));
  expect(base.done).toHaveLength(40);
  expect(base.most).toBe(8);
});

test('each step is done as its kind', async () => {
  const base = new Base();
  const zeros: PlanStep = {
    kind: 'copy',
    offset: 2000,
    length: 10,
    pieces: [{ kind: 'zero', offset: 2000, length: 10 }],
  };
  await run(base, [copyStep(0), zeroStep(1), zeros]);
  expect(base.done.sort()).toEqual(['copy 0+1000', 'write 2000+10', 'zero 1000+1000']);
});

test('pieces of several places go through one buffer', async () => {
  const base = new Base();
  const written: Uint8Array[] = [];
  base.write = async (...[, bytes]: unknown[]) => void written.push((bytes as Uint8Array).slice());
  const layer = new FakeLayer('compressed', []);
  layer.read = async (...args: unknown[]) => void (args[1] as Uint8Array).fill(7);
  await source.storage.write(500, Uint8Array.of(1, 2), 'data');
  const host = { storage: source.storage, offset: 500 };
  await run(base, [
    {
      kind: 'copy',
      offset: 0,
      length: 7,
      pieces: [
        { kind: 'data', offset: 0, length: 2, layer, host: null },
        { kind: 'zero', offset: 2, length: 3 },
        { kind: 'data', offset: 5, length: 2, layer: source, host },
      ],
    },
  ]);
  expect(written.map((bytes) => [...bytes])).toEqual([[7, 7, 0, 0, 0, 1, 2]]);
});

describe('progress', () => {
  test('begins at nothing, rises with each step and ends with all', async () => {
    const seen: CommitProgress[] = [];
    const steps = [...many(10), ...many(12, zeroStep).slice(10)];
    await run(new Base(), steps, {}, (progress) => void seen.push(progress));
    const amounts = seen.map(({ done }) => done);
    expect(amounts).toEqual(Array.from({ length: 13 }, (_, n) => n * LENGTH));
    expect(new Set(seen.map(({ total }) => total))).toEqual(new Set([12 * LENGTH]));
  });

  test('of an empty plan is told once', async () => {
    const seen: CommitProgress[] = [];
    await run(new Base(), [], {}, (progress) => void seen.push(progress));
    expect(seen).toEqual([{ done: 0, total: 0, rate: 0, secondsLeft: undefined }]);
  });
});

describe('an error', () => {
  test('stops it: no step starts any more, those in flight end first', async () => {
    const base = new Base();
    const error = new Error('full');
    base.onStep = (n) => {
      if (n === 3) throw error;
    };
    await expect(run(base, many(100))).rejects.toBe(error);
    expect(base.running).toBe(0);
    expect(base.started).toBeLessThanOrEqual(8 + 3);
  });

  test('of the last step is told too, and only the first one is', async () => {
    const base = new Base();
    base.onStep = (n) => {
      if (n >= 2) throw new Error(`step ${n}`);
    };
    await expect(run(base, many(4))).rejects.toThrow('step 2');
    expect(base.running).toBe(0);
  });

  test('of the plan itself waits for what is in flight', async () => {
    const base = new Base();
    async function* broken(): AsyncGenerator<readonly PlanStep[]> {
      yield many(3);
      throw new Error('unreadable map');
    }
    const host = new SimulatedHost();
    const meter = new Meter(host, 1, undefined);
    const done = carryOut(broken(), base, { meter, rateLimit: new RateLimit(0, host) });
    await expect(done).rejects.toThrow('unreadable map');
    expect(base.done).toHaveLength(3);
  });
});

describe('an abort', () => {
  test('stops it between steps with its reason', async () => {
    const base = new Base();
    const abort = new AbortController();
    const reason = new Error('enough');
    base.onStep = (n) => {
      if (n === 10) abort.abort(reason);
    };
    await expect(run(base, many(100), { signal: abort.signal })).rejects.toBe(reason);
    expect(base.running).toBe(0);
    expect(base.done.length).toBe(base.started);
    expect(base.started).toBeLessThan(30);
  });

  test('before it begins lets nothing begin', async () => {
    const base = new Base();
    const signal = AbortSignal.abort(new Error('never mind'));
    await expect(run(base, many(3), { signal })).rejects.toThrow('never mind');
    expect(base.started).toBe(0);
  });

  test('ends a wait for the rate', async () => {
    const base = new Base();
    const abort = new AbortController();
    const host = new SimulatedHost();
    host.onWake = () => abort.abort(new Error('too slow'));
    const rateLimit = new RateLimit(10, host);
    const done = run(base, many(3), { rateLimit, signal: abort.signal });
    await expect(done).rejects.toThrow('too slow');
    expect(base.started).toBe(0);
  });
});
