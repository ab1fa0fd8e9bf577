// Progress that is added up step by step, as QEMU prints it.

import { expect, test } from 'vitest';
import { StepProgress } from '../../src/cli/step-progress.ts';
import { keptOutput } from '../support/output.ts';

test('a line for more than 2 %, and for the end', () => {
  const output = keptOutput();
  const progress = new StepProgress(output, true, 2);
  progress.start();
  for (const done of [2, 4, 5, 99, 100]) progress.reached(done, 100);
  progress.end();
  const percents = [...output.stdout.matchAll(/ {4}\((\d+\.\d\d)\/100%\)\r/g)].map(([, n]) => n);
  expect(percents).toEqual(['0.00', '4.00', '99.00', '100.00']);
  expect(output.stdout.endsWith('\r\n')).toBe(true);
});

test('floats of 32 bits, added up', () => {
  const output = keptOutput();
  const progress = new StepProgress(output, true, 2);
  for (let done = 1; done <= 30_000; done++) progress.reached(done, 30_000);
  // Exact sums would give 8.00, and 100.00 once.
  expect(output.stdout).toContain('(8.01/100%)');
  expect(output.stdout.match(/100\.00/g)?.length).toBeGreaterThan(1);
});

test('without -p one line where it is asked for', () => {
  const output = keptOutput();
  const progress = new StepProgress(output, false, 2);
  progress.start();
  progress.reached(10, 100);
  progress.showNext();
  progress.reached(25, 200);
  progress.reached(60, 200);
  progress.end();
  expect(output.stdout).toBe('');
  expect(output.stderr).toMatch(/^ {4}\(\d+\.\d\d\/100%\)\n$/);
});
