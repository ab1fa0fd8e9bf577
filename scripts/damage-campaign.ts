// Damaged images, repaired by us and by qemu-img, and which repair left more:
// npx tsx scripts/damage-campaign.ts [--cases N] [--seed S] [--first I] [--image NAME] [--keep DIR]
//
// A case is named by seed and index: `--seed S --first I --cases 1 --keep DIR` leaves its image in
// DIR. Told are those where QEMU left something that we did not; exits 1 where we made up for none of
// it by something else.

import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { asQemu } from '../test/support/cli.ts';
import { damageImage } from '../test/support/damage.ts';
import { IMAGE_NAMES } from '../test/support/damage-images.ts';
import { Judge } from '../test/support/damage-judge.ts';
import { makeTemp } from '../test/support/temp.ts';

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    first: { type: 'string', default: '0' },
    image: { type: 'string', multiple: true, default: [...IMAGE_NAMES] },
    keep: { type: 'string' },
  },
});
const [seed, cases, first] = [Number(values.seed), Number(values.cases), Number(values.first)];
const images = values.image;
if (![seed, cases, first].every(Number.isSafeInteger)) {
  throw new Error(`not understood: ${JSON.stringify(values)}`);
}
console.log(`seed ${seed}, cases ${first} to ${first + cases - 1}, of ${images.join(' ')}`);
const ours = asQemu();
const { dir, cleanup } = makeTemp();
const counts = { same: 0, better: 0, mixed: 0, worse: 0 };
try {
  // The image of a case is told by its index, too; those of one image are judged together.
  for (const [i, name] of images.entries()) {
    const mine = Array.from({ length: cases }, (_, n) => first + n).filter(
      (index) => index % images.length === i,
    );
    if (mine.length === 0) continue;
    const judge = new Judge(dir, ours);
    const sound = await judge.begin(name);
    for (const index of mine) {
      const { bytes, what } = damageImage(sound, seed, index);
      const { kind, better, worse, ours: state, theirs } = await judge.judge(bytes);
      counts[kind]++;
      const isTold = kind === 'worse' || kind === 'mixed' || cases === 1;
      if (isTold) {
        console.log(`\n${kind}: ${name}, --first ${index}: ${what.join('; ')}`);
        for (const reason of worse) console.log(`  QEMU's ${reason}`);
        for (const reason of better) console.log(`  ours ${reason}`);
        console.log(`  exit codes: ours ${state.exit}, QEMU's ${theirs.exit}`);
      }
      if (values.keep !== undefined && (kind === 'worse' || cases === 1))
        keep(values.keep, index, name, bytes);
    }
    if (cases > 1) console.log(`${name}: ${mine.length} cases`);
  }
} finally {
  ours.remove();
  cleanup();
}
const { same, better, mixed, worse } = counts;
console.log(`\n${same} same, ${better} better, ${mixed} mixed, ${worse} worse`);
process.exitCode = worse > 0 ? 1 : 0;

function keep(to: string, index: number, name: string, bytes: Buffer): void {
  mkdirSync(to, { recursive: true });
  writeFileSync(join(to, `${index}-${name}.qcow2`), bytes);
  cpSync(join(dir, 'base.raw'), join(to, 'base.raw'));
}
