// Has every call of every operation fail, in every file and way, once and for ever:
// npm run faults -- [--most N] [--seed S] [--only REGEXP]
//
// `--most`: calls of one kind in one file that fail; without it, all. The first fault after which a
// promise does not hold ends it.

import { parseArgs } from 'node:util';
import { CRASH_OPERATIONS } from '../test/support/crash-operations/index.ts';
import { LIVE } from '../test/support/crash-operations/live.ts';
import { tryFaults } from '../test/support/fault-trial.ts';

const { values } = parseArgs({
  options: {
    most: { type: 'string', default: 'Infinity' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
  },
});
const most = Number(values.most);
const seed = Number(values.seed);
if (!(most >= 1) || !Number.isSafeInteger(seed)) {
  throw new Error(`not understood: ${JSON.stringify(values)}`);
}
const only = new RegExp(values.only);
const totals = { calls: 0, faults: 0 };
const row = (name: string, { calls, faults }: typeof totals) =>
  console.log(
    `| ${[name, calls.toLocaleString('en-US'), faults.toLocaleString('en-US')].join(' | ')} |`,
  );
console.log('| operation | calls | faults |\n| --- | ---: | ---: |');
// What a fault means to a job is up to whoever began it: see `test/daemon/`.
const operations = CRASH_OPERATIONS.filter((each) => !LIVE.includes(each));
for (const operation of operations.filter(({ name }) => only.test(name))) {
  const { calls, faults } = await tryFaults(operation, { seed, most });
  const sum = { calls: [...calls.values()].reduce((a, b) => a + b, 0), faults };
  row(operation.name, sum);
  totals.calls += sum.calls;
  totals.faults += sum.faults;
}
row('all', totals);
