// Any number of random chains:
// npx tsx scripts/fuzz-commit.ts [--runs N] [--seed S] [--committer library|cli|qemu]

import { parseArgs } from 'node:util';
import { runCases } from '../test/support/commit-property.ts';
import { cliCommitter, libraryCommitter, qemuCommitter } from '../test/support/committers.ts';

const COMMITTERS = { library: libraryCommitter, cli: cliCommitter, qemu: qemuCommitter };

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    committer: { type: 'string', default: 'library' },
  },
});
const seed = Number(values.seed);
const runs = Number(values.runs);
const committer = Object.entries(COMMITTERS).find(([name]) => name === values.committer)?.[1];
if (committer === undefined || !Number.isSafeInteger(seed) || !(runs > 0)) {
  throw new Error(`not understood: ${JSON.stringify(values)}`);
}
console.log(`seed ${seed}, ${runs} cases, ${values.committer}`);
let failures = 0;
const onFailure = (error: unknown) => {
  // Making a counterexample small can take long: show that there is one.
  if (failures++ === 0) console.log(`A case fails; looking for a smaller one.\n${error}`);
};
await runCases(seed, runs, { committer, onFailure });
console.log(`${runs} cases hold`);
