// One image, a power cut at any moment: it opens, has no corruption, and shows what was flushed.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkImage } from '../../src/qcow2/check.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { CrashHost, hostWith, randomFrom } from '../support/crash.ts';

const SECTOR = 512;
const SECTORS = 160;

type Operation =
  | { readonly kind: 'write' | 'zero'; readonly at: number; readonly count: number }
  | { readonly kind: 'flush' }
  | { readonly kind: 'grow'; readonly by: number };

const range = { at: fc.nat(SECTORS - 1), count: fc.integer({ min: 1, max: 40 }) };
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('write' as const), ...range }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('zero' as const), ...range }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'flush' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('grow' as const), by: fc.nat(90) }) },
);

/** For each sector, the values (one byte stands for all) that a reader may find. */
class Possible {
  #sectors: Set<number>[] = Array.from({ length: SECTORS }, () => new Set([0]));

  get size(): number {
    return this.#sectors.length;
  }

  change(at: number, count: number, value: number): void {
    for (const sector of this.#sectors.slice(at, at + count)) sector.add(value);
  }

  grow(by: number): void {
    this.#sectors.push(...Array.from({ length: by }, () => new Set([0])));
  }

  /** A flush has ended: what was written last in each sector is there. */
  settle(last: readonly number[]): void {
    this.#sectors = this.#sectors.map((_, i) => new Set([last[i] ?? 0]));
  }

  copy(): readonly ReadonlySet<number>[] {
    return this.#sectors.map((sector) => new Set(sector));
  }
}

async function run(
  image: Qcow2Image,
  operations: readonly Operation[],
  note: (possible: Possible) => void,
): Promise<void> {
  const possible = new Possible();
  const last = Array.from({ length: SECTORS }, () => 0);
  note(possible);
  for (const [i, each] of operations.entries()) {
    if (each.kind === 'flush') {
      await image.flush();
      possible.settle(last);
      note(possible);
    } else if (each.kind === 'grow') {
      possible.grow(each.by);
      note(possible);
      await image.grow(image.size + each.by * SECTOR);
      last.push(...Array.from({ length: each.by }, () => 0));
    } else {
      const count = Math.min(each.count, image.size / SECTOR - each.at);
      const value = each.kind === 'zero' ? 0 : 1 + (i % 255);
      possible.change(each.at, count, value);
      note(possible);
      last.fill(value, each.at, each.at + count);
      if (each.kind === 'zero') await image.zero(each.at * SECTOR, count * SECTOR);
      else {
        await image.write(each.at * SECTOR, new Uint8Array(count * SECTOR).fill(value));
      }
    }
  }
}

async function check(bytes: Uint8Array, possible: readonly ReadonlySet<number>[]): Promise<void> {
  const host = hostWith(new Map([['image', bytes]]));
  const image = await Qcow2Image.open(await host.openStorage('image', { writable: false }));
  const findings: string[] = [];
  const { corruptions, checkErrors } = await checkImage(image, (text) => findings.push(text));
  expect({ corruptions, checkErrors, findings }).toMatchObject({ corruptions: 0, checkErrors: 0 });
  const view = new Uint8Array(image.size);
  await image.read(0, view);
  for (let i = 0; i < image.size / SECTOR; i++) {
    const sector = view.subarray(i * SECTOR, (i + 1) * SECTOR);
    const value = sector[0] ?? 0;
    expect(
      sector.every((byte) => byte === value),
      `sector ${i} is whole`,
    ).toBe(true);
    expect([...(possible[i] ?? [])], `sector ${i}`).toContain(value);
  }
}

const shape = fc.record({
  /** 16 KiB: with extended L2 entries, and so subclusters of a sector. */
  clusterSize: fc.constantFrom(512, 512, 1024, 16384),
  version: fc.constantFrom<2 | 3>(2, 3, 3),
  wide: fc.boolean(),
});

test(
  'after a power cut: no corruption, what was flushed is there, no sector is torn',
  {
    timeout: 120_000,
  },
  () =>
    fc.assert(
      fc.asyncProperty(
        shape,
        fc.array(operation, { minLength: 3, maxLength: 25 }),
        fc.nat(),
        async ({ clusterSize, version, wide }, operations, seed) => {
          const empty = new Map<string, Uint8Array>();
          const host = new CrashHost(empty);
          const storage = await host.createStorage('image');
          const refcountBits = version === 3 && wide ? 64 : 16;
          const extendedL2 = clusterSize === 16384;
          const options = {
            size: SECTORS * SECTOR,
            clusterSize,
            version: extendedL2 ? 3 : version,
            refcountBits,
            extendedL2,
          };
          const made = await createImage(storage, options);
          await made.flush();
          // A small cache: tables leave it, and checkpoints come in between.
          const image = await Qcow2Image.open(storage, { cacheBytes: 8 * clusterSize });
          const started = host.length;

          const notes: { at: number; possible: readonly ReadonlySet<number>[] }[] = [];
          await run(image, operations, (possible) =>
            notes.push({ at: host.length, possible: possible.copy() }),
          );

          const random = randomFrom(seed);
          for (const { at, files } of host.states(3, random)) {
            if (at < started || random(4) > 0) continue;
            const bytes = files.get('image') ?? new Uint8Array();
            const possible = notes.findLast((note) => note.at <= at)?.possible ?? [];
            await check(bytes, possible);
          }
        },
      ),
      { numRuns: 40 },
    ),
);
