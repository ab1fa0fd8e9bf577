// Measures commits of one chain: ours and qemu-img's in turns, on fresh copies, with results compared.

import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ChainMaker } from './chain-maker.mjs';
import { countCalls, measure, median, run } from './measure.mjs';
import { sharedBytes } from './sharing.mjs';

/** The chain in `folder`/pristine, made by `make(chainMaker)`. */
export async function pristine(folder, make) {
  const dir = join(folder, 'pristine');
  mkdirSync(dir);
  return { folder, ...(await make(new ChainMaker(dir))) };
}

/**
 * `programs`: { name: { command, ours? } }, `command` being what stands before options and top of a
 * commit. Returns medians of `runs` rounds: { name: { seconds, cpuSeconds, peakBytes } }. Rejects
 * where a result is wrong.
 */
export async function inTurns(chain, programs, { runs, cold, repeat = 1, bare = false }) {
  const names = Object.keys(programs);
  const samples = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < runs; round++) {
    // Who goes first changes: what the first one leaves in the caches helps the next.
    const turn = round % names.length;
    for (const name of [...names.slice(turn), ...names.slice(0, turn)]) {
      const { command, ours } = programs[name];
      const copy = await freshCopy(chain, cold);
      const commit = commitOf(chain, command);
      const sample = await repeated(commit, copy, repeat);
      if (round === runs - 1) await verify(chain, copy, ours);
      if (bare && ours) {
        const start = await repeated([command[0], '-e', '0'], copy, repeat);
        sample.bareSeconds = start.seconds;
      }
      samples[name].push(sample);
      rmSync(copy, { recursive: true });
    }
  }
  return Object.fromEntries(names.map((name) => [name, mediansOf(samples[name])]));
}

/** System calls of each program, by kind; these runs are not timed. */
export async function callsOf(chain, programs) {
  const calls = {};
  for (const [name, { command }] of Object.entries(programs)) {
    const copy = await freshCopy(chain, false);
    calls[name] = await countCalls(commitOf(chain, command), copy);
    rmSync(copy, { recursive: true });
  }
  return calls;
}

/**
 * What base shares with others after a commit that leaves the top as it is, as filefrag(8) tells, and
 * the space that the file system has less: { name: { shared, used } } in bytes.
 */
export async function sharingOf(chain, programs) {
  const sharing = {};
  for (const [name, { command }] of Object.entries(programs)) {
    const copy = await freshCopy(chain, false);
    const free = await freeBytes(copy);
    const keep = chain.args === undefined ? ['-d'] : chain.args;
    await run([...command, ...keep, chain.top], { cwd: copy });
    const used = free - (await freeBytes(copy));
    sharing[name] = { shared: await sharedBytes(join(copy, chain.base)), used };
    rmSync(copy, { recursive: true });
  }
  return sharing;
}

async function freeBytes(folder) {
  await run(['sync', '-f', folder]);
  const { bfree, bsize } = statfsSync(folder);
  return bfree * bsize;
}

/** Medians of `repeat` starts. */
async function repeated(command, cwd, repeat) {
  const samples = [];
  for (let i = 0; i < repeat; i++) samples.push(await measure(command, cwd));
  return mediansOf(samples);
}

function mediansOf(samples) {
  const keys = Object.keys(samples[0]);
  const medians = keys.map((key) => [key, median(samples.map((sample) => sample[key]))]);
  const peakBytes = Math.max(...samples.map((sample) => sample.peakBytes));
  return { ...Object.fromEntries(medians), peakBytes, all: samples.map(({ seconds }) => seconds) };
}

function commitOf({ top, args = [] }, command) {
  return [...command, ...args, top];
}

/** Nobody pays for writing out what was copied before. */
async function freshCopy({ folder }, cold) {
  const copy = join(folder, 'copy');
  await run(['cp', '-r', '--sparse=always', '--reflink=never', join(folder, 'pristine'), copy]);
  await run(['sync', '-f', copy]);
  if (cold) writeFileSync('/proc/sys/vm/drop_caches', '3');
  return copy;
}

/** Base shows what the chain showed before, through the top as well, and both are sound. */
async function verify({ folder, top, base, baseFormat = 'qcow2' }, copy, ours) {
  const before = join(folder, 'pristine', top);
  await run(['qemu-img', 'compare', '-f', 'qcow2', '-F', baseFormat, before, join(copy, base)]);
  if (!ours) return;
  await run(['qemu-img', 'compare', before, join(copy, top)]);
  await run(['qemu-img', 'check', join(copy, top)]);
  if (baseFormat === 'qcow2') await run(['qemu-img', 'check', join(copy, base)]);
}
