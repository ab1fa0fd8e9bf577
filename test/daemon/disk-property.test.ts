// A disk in use is an array of bytes: of random requests under way at once, each read gets what the
// requests before it left, whatever overtakes what below; and the image is sound afterwards.

import fc from 'fast-check';
import { describe, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { Disk } from '../../src/daemon/disk.ts';
import { ImageError } from '../../src/errors.ts';
import { JitteryHost, turns } from '../support/jittery-host.ts';
import { buildChain, type MemoryLayer, memoryChain } from '../support/memory-chains.ts';
import { expectBytes, expectSoundFile, viewOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

interface Request {
  readonly kind: 'read' | 'write' | 'zero' | 'keep' | 'fast' | 'discard';
  readonly at: number;
  readonly length: number;
  readonly fua: boolean;
}

type Step =
  | Request
  /** All requests before it have been answered; or some turns pass. */
  | { readonly kind: 'wait' | 'flush' | 'replace' | 'status'; readonly at?: undefined }
  | { readonly kind: 'turns'; readonly count: number; readonly at?: undefined };

const request: fc.Arbitrary<Request> = fc.record({
  kind: fc.constantFrom(
    'read',
    'read',
    'write',
    'write',
    'write',
    'zero',
    'keep',
    'fast',
    'discard',
  ),
  at: fc.oneof(
    fc.double({ min: 0, max: 0.999, noNaN: true }),
    // So that requests meet.
    fc.double({ min: 0.4, max: 0.5, noNaN: true }),
  ),
  length: fc.oneof(fc.integer({ min: 1, max: 700 }), fc.integer({ min: 1, max: 20_000 })),
  fua: fc.nat(9).map((n) => n === 0),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: request },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('turns' as const),
      count: fc.integer({ min: 1, max: 9 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('wait', 'flush', 'replace', 'status') }),
  },
);

/** What is known of the bytes: after a discard, one may read as zero instead. */
class Model {
  readonly #bytes: Uint8Array;
  readonly #loose: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#loose = new Uint8Array(bytes.length);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
    this.#loose.fill(0, offset, offset + bytes.length);
  }

  discard(offset: number, length: number): void {
    this.#loose.fill(1, offset, offset + length);
  }

  /** Compares what was read later with what is known now. */
  expectation(offset: number, length: number): (actual: Uint8Array) => void {
    const expected = this.#bytes.slice(offset, offset + length);
    const loose = this.#loose.slice(offset, offset + length);
    return (actual) => {
      for (const [i, isLoose] of loose.entries()) {
        if (isLoose === 1 && actual[i] === 0) expected[i] = 0;
      }
      expectBytes(actual, expected, `${offset}+${length}`);
    };
  }
}

async function play(
  layers: readonly MemoryLayer[],
  steps: readonly Step[],
  seed: number,
): Promise<void> {
  const host = new JitteryHost();
  const names = await buildChain(host, layers);
  const [top = ''] = names.slice(-1);
  const format = layers.at(-1)?.raw ? 'raw' : 'qcow2';
  host.start(seed);
  const chain = await openChain(top, { host, writable: true, format });
  const model = new Model(await viewOf(chain.top));
  const disk = new Disk(chain.top, { unmap: true });
  const pending: Promise<void>[] = [];
  for (const [n, each] of steps.entries()) {
    if (each.kind === 'turns') await turns(each.count);
    else if (each.kind === 'wait') await Promise.all(pending);
    else if (each.kind === 'flush') pending.push(disk.flush());
    else if (each.kind === 'replace') pending.push(disk.replace(chain.top, () => turns(3)));
    else if (each.kind === 'status') pending.push(checkStatus(disk));
    else if (each.at !== undefined) pending.push(start(disk, model, each, n));
    // A failure is told by the end.
    pending.at(-1)?.catch(() => undefined);
  }
  await Promise.all(pending);
  await disk.flush();
  await chain.close();
  host.stop();
  if (format === 'qcow2') await expectSoundFile(host, top);
  await using again = await openChain(top, { host, format });
  model.expectation(0, disk.size)(await viewOf(again.top));
}

async function start(disk: Disk, model: Model, { kind, at, length, fua }: Request, n: number) {
  const offset = Math.floor(at * disk.size);
  const count = Math.min(length, disk.size - offset);
  if (kind === 'read') {
    const check = model.expectation(offset, count);
    const target = pattern(count, 77);
    await disk.read(offset, target);
    check(target);
  } else if (kind === 'write') {
    const bytes = pattern(count, n);
    model.write(offset, bytes);
    await disk.write(offset, bytes, { fua });
  } else if (kind === 'discard') {
    model.discard(offset, count);
    await disk.discard(offset, count, { fua });
  } else if (kind === 'fast') {
    // Zeros, or refused: then it has to leave everything as it is.
    model.discard(offset, count);
    await disk.zero(offset, count, { fua, fast: true }).catch((error: unknown) => {
      if (!(error instanceof ImageError) || error.errno !== 'ENOTSUP') throw error;
    });
  } else {
    model.write(offset, new Uint8Array(count));
    await disk.zero(offset, count, { fua, mayPunch: kind === 'zero' });
  }
}

/** Runs cover the disk, and zeros are zeros. Asked for while others write, they say nothing more. */
async function checkStatus(disk: Disk): Promise<void> {
  for (const ask of [disk.status.bind(disk), disk.depths.bind(disk)]) {
    const runs = await ask(0, disk.size, Number.POSITIVE_INFINITY);
    const length = runs.reduce((sum, run) => sum + run.length, 0);
    if (length !== disk.size) throw new Error(`runs cover ${length} of ${disk.size} bytes`);
  }
}

const property = fc.asyncProperty(
  memoryChain(0, 3),
  fc.array(step, { minLength: 4, maxLength: 40, size: 'max' }),
  fc.nat(2 ** 31),
  play,
);

describe('requests under way at once', () => {
  test('leave a disk as if they came one after the other', async () => {
    await fc.assert(property, { seed: 20261128, numRuns: 60 });
  });
});
