// Input n of a seed: a sound chain of which one image lies, judged.

import type { Description } from '../../../src/chain/open.ts';
import { makeCorpus, type Specimen } from './corpus.ts';
import { type Judgement, judge } from './judge.ts';
import { type Anatomy, anatomyOf, mutate } from './mutate.ts';
import { Random } from './random.ts';

interface Prepared extends Specimen {
  readonly anatomies: ReadonlyMap<string, Anatomy>;
}

export interface Input {
  /** What it is, in words. */
  readonly about: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly top: string;
  /** As in {@link Specimen}. */
  readonly keyed?: Description;
}

export interface Judged extends Judgement {
  readonly about: string;
}

export type InputSource = (seed: number, number: number) => Input;

export async function inputSource(): Promise<InputSource> {
  const corpus: readonly Prepared[] = (await makeCorpus()).map((specimen) => ({
    ...specimen,
    anatomies: new Map(
      specimen.targets.map((name) => [name, anatomyOf(specimen.files.get(name) as Uint8Array)]),
    ),
  }));
  return (seed, number) => {
    const random = new Random(seed, number);
    const { name, files, top, keyed, targets, anatomies } = random.pick(corpus);
    const target = random.pick(targets);
    const sound = files.get(target) as Uint8Array;
    const { bytes, lies } = mutate(sound, anatomies.get(target) as Anatomy, random);
    const about = `seed ${seed}, input ${number}: ${name}, ${target}: ${lies.join('; ')}`;
    return { about, files: new Map([...files, [target, bytes]]), top, ...(keyed && { keyed }) };
  };
}

export async function judgeInput(source: InputSource, seed: number, n: number): Promise<Judged> {
  const { about, files, top, keyed } = source(seed, n);
  return { about, ...(await judge(files, top, keyed)) };
}

/** Judges the first inputs of a seed; throws with all that was found. */
export async function expectHarmless(run: {
  readonly seed: number;
  readonly count: number;
}): Promise<void> {
  const source = await inputSource();
  const findings: string[] = [];
  for (let n = 0; n < run.count; n++) {
    const { about, findings: found } = await judgeInput(source, run.seed, n);
    findings.push(...found.map((one) => `${about}\n    ${one}`));
  }
  if (findings.length > 0) throw new Error(findings.join('\n'));
}
