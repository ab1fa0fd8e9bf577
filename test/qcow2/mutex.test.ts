// Turns: in order of arrival, one at a time, and a failure is nobody else's.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Mutex, RangeLocks } from '../../src/qcow2/mutex.ts';

/** Work that ends when it is told to. */
function gate() {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}

const idle = () => new Promise<void>((resolve) => setImmediate(resolve));

test('a mutex runs one at a time, in the order of the calls', async () => {
  const mutex = new Mutex();
  const log: string[] = [];
  const work = (name: string) => async () => {
    log.push(`${name} starts`);
    await idle();
    log.push(`${name} ends`);
    return name;
  };
  const results = await Promise.all(['a', 'b', 'c'].map((name) => mutex.run(work(name))));
  expect(results).toEqual(['a', 'b', 'c']);
  const expected = ['a', 'b', 'c'].flatMap((name) => [`${name} starts`, `${name} ends`]);
  expect(log).toEqual(expected);
});

test('a failure in a mutex reaches its caller alone', async () => {
  const mutex = new Mutex();
  const failed = mutex.run(async () => {
    throw new Error('mine');
  });
  const thrown = mutex.run(() => {
    throw new Error('mine too');
  });
  const next = mutex.run(async () => 'fine');
  await expect(failed).rejects.toThrow('mine');
  await expect(thrown).rejects.toThrow('mine too');
  expect(await next).toBe('fine');
});

test('distinct ranges run at the same time, touching ones too', async () => {
  const locks = new RangeLocks();
  const { opened, open } = gate();
  const first = locks.exclusive(0, 10, () => opened);
  await locks.exclusive(10, 20, async () => undefined);
  await locks.exclusive(20, 30, async () => undefined);
  open();
  await first;
});

test('overlapping ranges take turns in their order', async () => {
  const locks = new RangeLocks();
  const { opened, open } = gate();
  const log: string[] = [];
  const first = locks.exclusive(0, 10, async () => {
    await opened;
    log.push('first');
  });
  const second = locks.exclusive(9, 12, async () => void log.push('second'));
  const third = locks.exclusive(5, 11, async () => void log.push('third'));
  await idle();
  expect(log).toEqual([]);
  open();
  await Promise.all([first, second, third]);
  expect(log).toEqual(['first', 'second', 'third']);
});

test('a failure in a range does not block it', async () => {
  const locks = new RangeLocks();
  const failed = locks.exclusive(0, 10, async () => {
    throw new Error('mine');
  });
  const waiting = locks.exclusive(0, 10, async () => 'fine');
  await expect(failed).rejects.toThrow('mine');
  expect(await waiting).toBe('fine');
});

test('never two at once in one byte, and all come to an end', async () => {
  const ranges = fc.array(fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 8 }), fc.nat(3)), {
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(ranges, async (list) => {
      const locks = new RangeLocks();
      const held = new Array<number>(40).fill(0);
      let most = 0;
      const work = ([start, length, turns]: readonly [number, number, number]) =>
        locks.exclusive(start, start + length, async () => {
          for (let i = start; i < start + length; i++) most = Math.max(most, ++held[i]!);
          for (let i = 0; i < turns; i++) await Promise.resolve();
          for (let i = start; i < start + length; i++) held[i]!--;
        });
      await Promise.all(list.map(work));
      expect(most).toBeLessThanOrEqual(1);
      expect(held.every((count) => count === 0)).toBe(true);
    }),
  );
});
