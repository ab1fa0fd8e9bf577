// How much a walk looks at tables that it has seen before.

import { expect, test } from 'vitest';
import { WalkBudget } from '../../src/qcow2/walk-budget.ts';

function timesOf(entries: number): number {
  const budget = new WalkBudget();
  let times = 0;
  while (budget.spend(entries)) times++;
  return times;
}

test('entries are counted, and reading a small table as much as 1024 of them', () => {
  expect(timesOf(8192)).toBe(2048);
  expect(timesOf(64)).toBe(16_384);
  expect(timesOf(1024)).toBe(16_384);
});

test('what does not fit is not spent', () => {
  const budget = new WalkBudget();
  expect(budget.spend(2 ** 24 + 1)).toBe(false);
  expect(budget.spend(2 ** 24)).toBe(true);
  expect(budget.spend(1)).toBe(false);
});
