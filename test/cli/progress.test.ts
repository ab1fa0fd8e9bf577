// The progress line: its form, its steps, and the one line that a signal asks for.

import { expect, test } from 'vitest';
import { ProgressLine } from '../../src/cli/progress.ts';
import { keptOutput } from '../support/output.ts';

function lineOf(enabled: boolean) {
  const output = keptOutput();
  const line = new ProgressLine(output, enabled);
  const update = (done: number, total = 10_000) =>
    line.update({ done, total, rate: 0, secondsLeft: undefined });
  return { output, line, update };
}

const shown = (text: string) => [...text.matchAll(/\((.*?)\/100%\)/g)].map(([, number]) => number);

test('it begins with the first update and is overwritten by the next', () => {
  const { output, update } = lineOf(true);
  update(0);
  update(1234);
  expect(output.stdout).toBe('    (0.00/100%)\r    (12.34/100%)\r');
});

test('steps of less than one percent are left out', () => {
  const { output, update } = lineOf(true);
  for (let done = 0; done <= 10_000; done += 7) update(done);
  const steps = shown(output.stdout).map(Number);
  for (const [i, step] of steps.slice(1).entries()) {
    expect(step - (steps[i] ?? 0)).toBeGreaterThanOrEqual(1);
  }
  expect(steps.length).toBeGreaterThan(90);
});

test('all of it is always shown, once', () => {
  const { output, update, line } = lineOf(true);
  update(9950);
  update(10_000);
  update(10_000);
  line.end(true);
  expect(shown(output.stdout)).toEqual(['99.50', '100.00']);
  expect(output.stdout.endsWith('\r\n')).toBe(true);
});

test('digits are those of a float of 32 bits, ties go to the even digit', () => {
  const { output, update } = lineOf(true);
  update(1, 800);
  update(3, 160);
  update(9, 160);
  update(5_000_050_001, 40_000_000_000);
  expect(shown(output.stdout)).toEqual(['0.12', '1.88', '5.62', '12.50']);
});

test('more than all is all', () => {
  const { output, update } = lineOf(true);
  update(20_000);
  expect(shown(output.stdout)).toEqual(['100.00']);
});

test('success ends at 100, failure where it stands', () => {
  const success = lineOf(true);
  success.update(5000);
  success.line.end(true);
  expect(success.output.stdout).toBe('    (50.00/100%)\r    (100.00/100%)\r\n');
  const failure = lineOf(true);
  failure.update(5000);
  failure.line.end(false);
  expect(failure.output.stdout).toBe('    (50.00/100%)\r\n');
  const early = lineOf(true);
  early.line.end(false);
  expect(early.output.stdout).toBe('');
});

test('nothing to do counts as nothing done, until the end', () => {
  const { output, update, line } = lineOf(true);
  update(0, 0);
  line.end(true);
  expect(shown(output.stdout)).toEqual(['0.00', '100.00']);
});

test('without it, each signal gets one line', () => {
  const { output, update, line } = lineOf(false);
  update(100);
  line.showNext();
  update(5000);
  update(6000);
  line.end(true);
  expect(output).toMatchObject({ stdout: '', stderr: '    (50.00/100%)\n' });
});
