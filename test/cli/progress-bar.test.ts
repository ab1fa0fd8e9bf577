// The bar: what it tells at which width, how often, and that nothing of it stays.

import { expect, test } from 'vitest';
import { JsonReport } from '../../src/cli/commit-report.ts';
import { barLine, duration, ProgressBar } from '../../src/cli/progress-bar.ts';
import type { CommitPlan } from '../../src/commit/options.ts';
import { keptOutput } from '../support/output.ts';

const MIB = 1024 ** 2;
const half = { done: 512 * MIB, total: 1024 * MIB, rate: 100 * MIB, secondsLeft: 5.12 };

test('wide: a bar, percent, bytes, rate and time left', () => {
  expect(barLine(half, 120)).toBe(
    `[${'█'.repeat(20)}${'░'.repeat(20)}]  50%  512 MiB of 1 GiB  100.0 MiB/s  0:06 left`,
  );
});

test('it never reaches the last column, and the percentage goes last', () => {
  for (let columns = 6; columns < 140; columns++) {
    const line = barLine(half, columns);
    expect(line.length).toBeLessThan(columns);
    expect(line).toContain('50%');
  }
  expect(barLine({ done: 0, total: 0, rate: 0, secondsLeft: undefined }, 80)).toContain('0%');
});

test.each([
  [0, '0:00'],
  [59.2, '1:00'],
  [3600, '1:00:00'],
  [1e6, '11 days'],
])('%d seconds are %s', (seconds, text) => {
  expect(duration(seconds)).toBe(text);
});

test('ten times a second at most, cleared at the end; a signal gets a line that stays', () => {
  const output = keptOutput();
  let now = 0;
  const bar = new ProgressBar(
    output,
    () => 80,
    () => now,
  );
  for (; now < 1000; now++) bar.update(half);
  expect(output.stdout.split('\r').length - 1).toBe(10);
  bar.showNext();
  bar.update(half);
  expect(output.stderr).toBe(' 50%  512 MiB of 1 GiB  100.0 MiB/s  0:06 left\n');
  bar.end();
  expect(output.stdout.endsWith('\r\x1b[K')).toBe(true);
});

test('JSON lines: ten a second at most, and the last state before the result', () => {
  const output = keptOutput();
  let now = 0;
  const report = new JsonReport(output, false, () => now);
  const plan = {
    relinks: [],
    siblings: ['x'],
    siblingCopies: [],
    unread: [],
    reclaims: [],
    bitmaps: [],
    bitmapsLeft: [],
    invalidates: [],
    deletes: [],
  } as unknown as CommitPlan;
  report.planned(plan);
  for (; now < 1000; now++) report.progress({ ...half, done: now });
  report.done(plan);
  const lines = output.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.filter(({ type }) => type === 'progress')).toHaveLength(11);
  expect(lines.slice(0, 2).map(({ type }) => type)).toEqual(['plan', 'warning']);
  expect(lines.at(-2)).toMatchObject({ type: 'progress', done: 999, 'seconds-left': 5.12 });
  expect(lines.at(-1)).toMatchObject({ type: 'result' });
});
