// Images damaged at random, repaired by us and by qemu-img: what is left is never less than what
// QEMU's repair leaves. `npm run damage` judges any number of them.

import { afterAll, expect, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import { damageImage } from '../support/damage.ts';
import { IMAGE_NAMES } from '../support/damage-images.ts';
import { Judge } from '../support/damage-judge.ts';
import { placesIn } from '../support/image-places.ts';
import { makeTemp } from '../support/temp.ts';

const SEED = 1;
const CASES = 2;

const ours = asQemu();
const { dir, cleanup } = makeTemp();
afterAll(() => {
  ours.remove();
  cleanup();
});

test('the judge finds out what a repair lost', async () => {
  const judge = new Judge(dir, ours);
  const sound = await judge.begin('all');
  const places = placesIn(sound);
  const best = await judge.look(sound, 0);
  const lossOf = async (change: (bytes: Buffer) => void, exit = 0) => {
    const bytes = Buffer.from(sound);
    change(bytes);
    const left = await judge.look(bytes, exit);
    expect(judge.compare(best, left).better).toEqual(judge.compare(left, best).worse);
    return judge.compare(left, best).worse.join();
  };
  const [l2, block] = [places.l2[0]?.offset ?? 0, places.refcountBlocks[0]?.offset ?? 0];
  expect(await lossOf(() => undefined)).toBe('');
  expect(await lossOf(() => undefined, 3)).toBe('exit code 0, not 3');
  expect(await lossOf((bytes) => bytes.fill(0, l2, l2 + 16))).toMatch(
    /leaks.*of the disk, from 0$/,
  );
  expect(await lossOf((bytes) => bytes.fill(0, block, block + 8))).toMatch(/corruptions left/);
  expect(await lossOf((bytes) => bytes.writeUInt32BE(1, 60))).toMatch(/has snapshot second/);
  expect(await lossOf((bytes) => bytes.writeUInt8(0, 95))).toMatch(/has bitmap one,has bitmap two/);
  expect(await lossOf((bytes) => bytes.writeUInt8(0, 0))).toMatch(/can be opened/);
});

test('a damage is the same for the same seed, and there are many', async () => {
  const sound = await new Judge(dir, ours).begin('all');
  const damages = Array.from({ length: 300 }, (_, i) => damageImage(sound, 5, i));
  expect(damageImage(sound, 5, 7)).toEqual(damages[7]);
  const kinds = new Set(damages.flatMap(({ what }) => what.map((each) => each.split(' at ')[0])));
  for (const kind of ['L1 entry', 'L2 entry', 'inactive L1 entry', 'refcount table entry']) {
    expect(kinds).toContain(kind);
  }
  for (const field of ['header size', 'snapshot l1Size', 'bitmap tableOffset', 'cut to']) {
    expect(
      [...kinds].some((each) => each?.startsWith(field)),
      field,
    ).toBe(true);
  }
});

test.each(IMAGE_NAMES)('of %s', async (name) => {
  const judge = new Judge(dir, ours);
  const sound = await judge.begin(name);
  for (let i = 0; i < CASES; i++) {
    const index = i * 1000;
    const { bytes, what } = damageImage(sound, SEED, index);
    const { kind, worse } = await judge.judge(bytes);
    const told = `seed ${SEED}, index ${index}: ${what.join('; ')}: ${worse.join('; ')}`;
    expect(kind, told).not.toBe('worse');
  }
});
