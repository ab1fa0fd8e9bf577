// The model of a power cut itself: what is recorded, and which states are made of it.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { CrashHost, type Files, randomFrom } from '../support/crash.ts';
import { COMMIT_CLONED } from '../support/crash-operations/commit-cloned.ts';
import { COMMIT_FORMS } from '../support/crash-operations/commit-forms.ts';
import { CODECS } from '../support/crash-operations/scene.ts';

const SECTOR = 512;
const filled = (value: number, sectors = 1) => new Uint8Array(sectors * SECTOR).fill(value);

/** The first byte of each sector, and the length where that is no whole number of them. */
function shown(files: Files): string {
  const bytes = files.get('f');
  if (bytes === undefined) return 'gone';
  const sectors = Array.from({ length: Math.ceil(bytes.length / SECTOR) }, (_, i) =>
    String(bytes[i * SECTOR]),
  );
  return sectors.join('');
}

async function recorded(content: Uint8Array, work: (host: CrashHost) => Promise<void>) {
  const host = new CrashHost(new Map([['f', content]]));
  await work(host);
  return host;
}

const open = (host: CrashHost) => host.openStorage('f', { writable: true });
const statesOf = (host: CrashHost): ReadonlySet<string> =>
  new Set([...host.states(1000, randomFrom(1))].map(({ files }) => shown(files)));

test('any sector of what was not synced, none of it, all of it', async () => {
  const host = await recorded(filled(0, 3), async (machine) => {
    const file = await open(machine);
    await file.write(0, filled(1, 2), 'data');
    await file.flush();
  });
  expect(statesOf(host)).toEqual(new Set(['110', '100', '010']));
});

test('what was synced is there, whatever comes to be of what follows', async () => {
  const host = await recorded(filled(0, 2), async (machine) => {
    const file = await open(machine);
    await file.write(0, filled(1), 'data');
    await file.flush();
    await file.write(SECTOR, filled(2), 'data');
  });
  const behind = [...host.states(1000, randomFrom(1))].filter(({ at }) => at >= 2);
  expect(new Set(behind.map(({ files }) => shown(files)))).toEqual(new Set(['10', '12']));
});

test('writes to one sector: either may be the one that is left', async () => {
  const host = await recorded(filled(0), async (machine) => {
    const file = await open(machine);
    await file.write(0, filled(1), 'data');
    await file.write(0, filled(2), 'data');
  });
  expect(statesOf(host)).toEqual(new Set(['1', '2']));
});

test('a copy within the machine counts as a write: it is there once it is synced', async () => {
  const source = new MemoryStorage(filled(7, 2));
  const host = await recorded(filled(0, 2), async (machine) => {
    const file = await open(machine);
    expect(await file.copyFrom(source, 0, 0, 2 * SECTOR)).toBe(2 * SECTOR);
    await file.flush();
  });
  expect(host.counts).toMatchObject({ copy: 1, sync: 1, write: 0 });
  expect(statesOf(host)).toEqual(new Set(['77', '70', '07']));
});

test('zeroes and discards may be torn; a discard never makes a file longer', async () => {
  const host = await recorded(filled(9, 2), async (machine) => {
    const file = await open(machine);
    await file.zero(0, 3 * SECTOR, 'data');
  });
  expect(statesOf(host)).toContain('09');
  expect(statesOf(host)).toContain('990');
  const discarding = await recorded(filled(9, 2), async (machine) => {
    await (await open(machine)).discard(0, 9 * SECTOR);
  });
  expect(statesOf(discarding)).toEqual(new Set(['00', '09', '90']));
});

test('a change of length may come before or after what was written, or not at all', async () => {
  const host = await recorded(filled(9, 2), async (machine) => {
    const file = await open(machine);
    await file.resize(SECTOR);
    await file.write(SECTOR, filled(1), 'data');
  });
  // Longer again with the write alone; cut behind it; as it was.
  expect(statesOf(host)).toEqual(new Set(['9', '91']));
});

test('a sync covers no call that had not come back when it began', async () => {
  const host = await recorded(filled(0), async (machine) => {
    const file = await open(machine);
    const syncing = file.flush();
    const writing = file.write(0, filled(1), 'data');
    await Promise.all([syncing, writing]);
  });
  expect(statesOf(host)).toContain('0');
});

test('a sync by one handle covers what was written by another', async () => {
  const host = await recorded(filled(0), async (machine) => {
    const [one, other] = [await open(machine), await open(machine)];
    await one.write(0, filled(1), 'data');
    await other.flush();
  });
  const last = [...host.states(10, randomFrom(1))].at(-1);
  expect(shown(last?.files ?? new Map())).toBe('1');
});

test('a removal is there at once', async () => {
  const host = await recorded(filled(0), (machine) => machine.remove('f'));
  expect(statesOf(host)).toEqual(new Set(['gone']));
});

test('what is sampled is the same for the same seed', async () => {
  const host = await recorded(filled(0, 64), async (machine) => {
    await (await open(machine)).write(0, filled(1, 64), 'data');
  });
  const sample = (seed: number) => [...host.states(5, randomFrom(seed))].map((s) => shown(s.files));
  expect(sample(3)).toEqual(sample(3));
  expect(sample(3)).not.toEqual(sample(4));
  expect(host.possibilities()).toEqual([Number.POSITIVE_INFINITY]);
});

test('a commit copies within the machine, and all that it does is on record', async () => {
  const [operation] = COMMIT_FORMS;
  const scene = await operation?.prepare(randomFrom(1));
  const host = new CrashHost(scene?.files ?? new Map(), CODECS);
  await scene?.run(host);
  const { write, copy, discard, resize, sync } = host.counts;
  for (const count of [write, copy, sync]) expect(count).toBeGreaterThan(2);
  expect(discard + resize).toBeGreaterThan(0);
});

test.each(COMMIT_CLONED)('$name: extents are shared', async (operation) => {
  const { files, clones = false, run } = await operation.prepare(randomFrom(1));
  const host = new CrashHost(files, { ...CODECS, clones });
  await run(host);
  // Neighbours go in one piece.
  expect(host.counts.clone).toBeGreaterThan(1);
});
