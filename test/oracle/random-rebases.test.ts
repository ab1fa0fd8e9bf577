// Rebases of random images made by QEMU, beside qemu-img on a copy: the view stays, the image is
// sound, what it names is the same, and so is every word that is printed, the progress too.

import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { chainSpecs, chainSpecsInOneFile } from '../support/arbitraries.ts';
import { type BuiltChain, buildChain } from '../support/build-chain.ts';
import { asQemu } from '../support/cli.ts';
import { checkClean, infoOf, run, viewOf } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const ours = asQemu();
afterAll(() => ours.remove());

/** The new backing file: none, a lower layer, another chain's top. */
const TARGETS = ['none', 'lower', 'other'] as const;

interface Built {
  readonly dir: string;
  readonly chain: BuiltChain;
  readonly other: BuiltChain;
}

function backingOf(target: (typeof TARGETS)[number], { chain, other }: Built): readonly string[] {
  if (target === 'none') return ['-b', ''];
  const lower = chain.layers[Math.max(0, chain.layers.length - 3)];
  const layer = target === 'lower' ? lower : other.layers.at(-1);
  const directory = target === 'other' ? 'other/' : '';
  return ['-b', `${directory}${layer?.name}`, '-F', layer?.format ?? ''];
}

async function judge(built: Built, target: (typeof TARGETS)[number]): Promise<void> {
  const { dir } = built;
  const [mine, theirs] = [`${dir}.${target}`, `${dir}.${target}.theirs`];
  for (const copy of [mine, theirs]) cpSync(dir, copy, { recursive: true });
  const name = built.chain.layers.at(-1)?.name ?? '';
  const scratch = `${dir}.scratch`;
  const before = await viewOf(join(mine, name), 'qcow2', scratch);
  const args = ['rebase', '-p', ...backingOf(target, built), name];
  const [our, their] = await Promise.all([
    ours.run(args, mine),
    run('qemu-img', args, { cwd: theirs }),
  ]);
  const words = args.join(' ');
  if (!isDeepStrictEqual(our, their)) {
    throw new Error(`${words}\n${JSON.stringify(our)}\n${JSON.stringify(their)}`);
  }
  expect(before.equals(await viewOf(join(mine, name), 'qcow2', scratch)), words).toBe(true);
  await checkClean(join(mine, name));
  const pointer = async (at: string) => {
    const info = await infoOf(join(at, name));
    return [info['backing-filename'], info['backing-filename-format']];
  };
  expect(await pointer(mine)).toEqual(await pointer(theirs));
}

test('random images get other backing files', { timeout: 300_000 }, () =>
  fc.assert(
    fc.asyncProperty(chainSpecs, chainSpecsInOneFile, async (spec, otherSpec) => {
      const { dir: place, cleanup } = makeTemp();
      const commands: string[] = [];
      try {
        const dir = join(place, 'c');
        mkdirSync(join(dir, 'other'), { recursive: true });
        const chain = await buildChain(spec, dir, commands);
        const layers = otherSpec.layers.slice(0, 2);
        const other = await buildChain({ layers }, join(dir, 'other'), commands);
        for (const target of TARGETS) await judge({ dir, chain, other }, target);
      } catch (error) {
        const reason = error instanceof Error ? error.stack : String(error);
        throw new Error(`${commands.join('\n')}\n${reason}`);
      } finally {
        cleanup();
      }
    }),
    { seed: 31, numRuns: 12, endOnFailure: true },
  ),
);
