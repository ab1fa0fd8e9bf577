// Any number of random chains: npx tsx scripts/fuzz-commit.ts [--runs N] [--seed S]

import { parseArgs } from 'node:util';
import { runCases } from '../test/support/commit-property.ts';

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '1000' }, seed: { type: 'string' } },
});
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
const runs = Number(values.runs);
console.log(`seed ${seed}, ${runs} cases`);
await runCases(seed, runs);
console.log(`${runs} cases hold`);
