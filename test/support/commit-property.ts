// The oracle property of commit: on a random chain made by QEMU, commit a random pair of layers in a
// random form, and judge with the model and with QEMU's own commit on a copy.

import { cpSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import { commit, ImageError } from '../../src/index.ts';
import { type BuiltChain, type BuiltLayer, buildChain } from './build-chain.ts';
import { checkClean, mapOf, qemuImg, snapshotView, viewOf, virtualSize } from './qemu.ts';
import { ChainModel, type ChainSpec, chainSpecs } from './random-chain.ts';
import { makeTemp } from './temp.ts';

export type Form = 'default' | 'drop' | 'base' | 'base-relink' | 'inner';

export interface Case {
  readonly spec: ChainSpec;
  readonly form: Form;
  /** Index of the layer that is committed, and of the one that receives it (0: base). */
  readonly top: number;
  readonly base: number;
}

export const cases: fc.Arbitrary<Case> = fc
  .record({
    spec: chainSpecs,
    form: fc.constantFrom<Form>('default', 'default', 'drop', 'base', 'base-relink', 'inner'),
    top: fc.nat(100),
    base: fc.nat(100),
  })
  .map(({ spec, form, top, base }) => {
    const highest = spec.layers.length - 1;
    // The inner form leaves a layer on top of what is merged.
    const upper = 1 + (top % highest);
    const inner = form === 'inner' && highest > 1;
    const topIndex = inner ? 1 + (top % (highest - 1)) : upper;
    const baseIndex = form === 'default' || form === 'drop' ? topIndex - 1 : base % topIndex;
    return {
      spec,
      form: form === 'inner' && !inner ? 'base' : form,
      top: topIndex,
      base: baseIndex,
    };
  });

/** Throws where anything is not as it must be; the message has the commands to see it again. */
export async function holds(each: Case): Promise<void> {
  const { dir, cleanup } = makeTemp();
  let chain: BuiltChain | undefined;
  try {
    const images = join(dir, 'images');
    mkdirSync(images);
    chain = await buildChain(each.spec, images);
    await judge(each, chain, images, dir);
  } catch (error) {
    const commands = chain?.commands.join('\n') ?? '';
    throw new Error(
      `${describe(each)}\n${commands}\n${error instanceof Error ? error.stack : error}`,
    );
  } finally {
    cleanup();
  }
}

function describe({ form, top, base }: Case): string {
  return `form ${form}: layer ${top} into layer ${base}`;
}

async function judge(each: Case, chain: BuiltChain, images: string, dir: string): Promise<void> {
  const { spec, form, top, base } = each;
  const layer = (index: number) => {
    const found = chain.layers[index];
    if (found === undefined) throw new Error(`no layer ${index}`);
    return found;
  };
  const scratch = join(dir, 'scratch.raw');
  const view = (index: number) => viewOf(layer(index).file, layer(index).format, scratch);
  const model = new ChainModel(spec);
  for (let i = 0; i < chain.layers.length; i++) {
    same(await view(i), model.view(i), `the model and QEMU differ before anything, layer ${i}`);
  }
  const highest = chain.layers.length - 1;
  // Snapshots further up show what lies below, which changes.
  const snapshotsBefore = await snapshotViews(chain.layers.slice(0, base + 1), scratch);
  const rival = join(dir, 'rival');
  const compareWithRival = form !== 'inner' && form !== 'base-relink';
  if (compareWithRival) cpSync(images, rival, { recursive: true });

  if (mustRefuse(each)) {
    await refuses(each, chain);
    return;
  }
  await commitAs(each, chain);

  const expected = model.committed(top, base);
  const overlay = form === 'inner' ? top + 1 : undefined;
  if (overlay !== undefined) {
    // Past top's end a longer overlay saw zeros, and must go on doing so.
    const longer = model.view(overlay).length;
    const topEnd = model.view(top).length;
    if (longer > topEnd) expected.fill(0, topEnd, Math.min(longer, expected.length));
  }
  same(await view(base), expected, 'the view through base');
  for (let i = top; i <= highest; i++) {
    if (form === 'inner' && i === top) continue;
    same(await view(i), model.view(i), `the view through layer ${i}`);
  }
  for (const { file, format } of chain.layers) if (format === 'qcow2') await checkClean(file);
  for (const [key, before] of snapshotsBefore) {
    const [file = '', name = ''] = key.split('\0');
    // QEMU reads a snapshot in the size that the disk has now.
    const after = (await snapshotView(file, name, scratch)).subarray(0, before.length);
    same(after, before, `snapshot ${name} of ${basename(file)}`);
  }
  if (form === 'default') await judgeEmptied(layer(top).file);
  if (compareWithRival) await compareRival(each, chain, rival, scratch);
}

/** A version 2 base with snapshots can't grow. */
function mustRefuse({ spec, top, base }: Case): boolean {
  const upper = spec.layers[top];
  const lower = spec.layers[base];
  if (upper === undefined || lower === undefined) return false;
  const hasSnapshots = lower.operations.some(({ kind }) => kind === 'snapshot');
  const old = lower.format === 'qcow2' && lower.compat === '0.10';
  return old && hasSnapshots && upper.sectors > lower.sectors;
}

async function refuses(each: Case, chain: BuiltChain): Promise<void> {
  const before = chain.layers.map(({ file }) => readFileSync(file));
  const error = await commitAs(each, chain).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ImageError)) throw new Error(`not refused: ${error}`);
  chain.layers.forEach(({ file }, i) => {
    same(readFileSync(file), before[i] ?? Buffer.alloc(0), `${basename(file)} after a refusal`);
  });
}

async function commitAs({ form, top, base }: Case, chain: BuiltChain): Promise<void> {
  const file = (index: number) => chain.layers[index]?.file ?? '';
  const highest = chain.layers.length - 1;
  const force = true;
  switch (form) {
    case 'default':
      return void (await commit(file(top), { force }));
    case 'drop':
      return void (await commit(file(top), { force, drop: true }));
    case 'base':
      return void (await commit(file(top), { force, base: file(base) }));
    case 'base-relink':
      return void (await commit(file(top), { force, base: file(base), relink: true }));
    case 'inner':
      return void (await commit(file(highest), { force, base: file(base), top: file(top) }));
    default:
      form satisfies never;
  }
}

async function snapshotViews(
  layers: readonly BuiltLayer[],
  scratch: string,
): Promise<Map<string, Buffer>> {
  const views = new Map<string, Buffer>();
  for (const { file, snapshots } of layers) {
    for (const name of snapshots) {
      views.set(`${file}\0${name}`, await snapshotView(file, name, scratch));
    }
  }
  return views;
}

async function judgeEmptied(top: string): Promise<void> {
  const own = (await mapOf(top)).filter(({ depth, present }) => depth === 0 && present);
  if (own.length > 0) throw new Error(`the top still holds ${JSON.stringify(own)}`);
}

/** QEMU's commit of the same layers on a copy: the same disk, and as large a top. */
async function compareRival(
  { form, top, base, spec }: Case,
  chain: BuiltChain,
  rival: string,
  scratch: string,
): Promise<void> {
  const ours = chain.layers[base];
  const oursTop = chain.layers[top];
  if (ours === undefined || oursTop === undefined) return;
  const theirs = join(rival, basename(ours.file));
  const theirsTop = join(rival, basename(oursTop.file));
  const args = form === 'default' ? [] : form === 'drop' ? ['-d'] : ['-b', theirs];
  try {
    await qemuImg('commit', '-q', ...args, theirsTop);
  } catch {
    // Where QEMU gives up (a raw base that it can't grow, say), the model alone is the judge.
    return;
  }
  const size = await virtualSize(theirs, ours.format);
  if (size !== (await virtualSize(ours.file, ours.format))) throw new Error('size of base');
  const expected = await viewOf(theirs, ours.format, scratch);
  same(await viewOf(ours.file, ours.format, scratch), expected, "base beside QEMU's");
  const spec_ = spec.layers[top];
  if (form !== 'default' || spec_?.compat !== '1.1') return;
  if (oursTop.snapshots.length > 0) return;
  const difference = statSync(oursTop.file).size - statSync(theirsTop).size;
  if (difference > 0) throw new Error(`emptied top is ${difference} bytes larger than QEMU's`);
}

export function same(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what}: ${actual.length} bytes instead of ${expected.length}`);
  }
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  throw new Error(`${what}: byte ${at} is ${actual[at]} instead of ${expected[at]}`);
}

export async function runCases(seed: number, runs: number): Promise<void> {
  await fc.assert(fc.asyncProperty(cases, holds), { seed, numRuns: runs, endOnFailure: false });
}
