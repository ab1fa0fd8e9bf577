// Tries an operation by power cuts: records it, looks at the states that a cut could leave, has the same
// command run again in each. Needs no test runner.

import { createHash } from 'node:crypto';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { CrashHost, type Files, filesIn, type Random, randomFrom } from './crash.ts';
import {
  CODECS,
  type CrashOperation,
  type CrashScene,
  openState,
} from './crash-operations/scene.ts';

export interface TrialOptions {
  readonly seed: number;
  /** Different states to look at, about. */
  readonly states: number;
  /** All states are looked at where there are no more than that. Default: `states`. */
  readonly all?: number;
  /**
   * Hears of each state that was found right, before anything is run in it; where those are corrupt,
   * of what another run made of it.
   */
  readonly onState?: (files: Files, random: Random) => Promise<void>;
}

export interface Tally {
  /** Writes, copies, zeroed ranges, changes of length, syncs, removals that were recorded. */
  readonly events: number;
  /** Different states that were looked at and finished. */
  readonly states: number;
  /** The states are all that there can be. */
  readonly exhaustive: boolean;
}

/** A state that breaks a promise. */
export class CrashFailure extends Error {
  override readonly name = 'CrashFailure';
  /** What was left. */
  readonly files: Files;

  constructor(where: string, files: Files, cause: unknown) {
    super(`${where}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.files = files;
  }
}

/** Throws a CrashFailure for the first state that breaks a promise. */
export async function tryOperation(
  operation: CrashOperation,
  { seed, states: wanted, all = wanted, onState }: TrialOptions,
): Promise<Tally> {
  const random = randomFrom(seed);
  const scene = await operation.prepare(random);
  const { clones = false } = scene;
  const host = new CrashHost(scene.files, { ...CODECS, clones });
  await scene.run(host);
  const counts = host.possibilities();
  const exhaustive = sumOf(counts) <= all;
  const perEvent = exhaustive ? all : shareOf(counts, wanted);
  // Where even one for each moment is too much, those that are looked at are spread over the whole.
  const thinning = exhaustive ? 1 : sumOf(counts, perEvent) / wanted;
  const judge = new Judge(scene);
  for (const { at, files } of host.states(perEvent, random)) {
    if (thinning > 1 && random(1000) >= 1000 / thinning) continue;
    try {
      if (await judge.look(files, at)) {
        if (!scene.corrupt) await onState?.(files, random);
        const finished = await judge.finish(files);
        if (scene.corrupt) await onState?.(finished, random);
      }
    } catch (error) {
      const where = `${operation.name}, seed ${seed}, cut after event ${at} of ${host.length}`;
      throw new CrashFailure(where, files, error);
    }
  }
  return { events: host.length, states: judge.count, exhaustive };
}

function sumOf(counts: readonly number[], most = Number.POSITIVE_INFINITY): number {
  return counts.reduce((sum, count) => sum + Math.min(count, most), 0);
}

/** States for each moment, so that there are about `wanted` in all. */
function shareOf(counts: readonly number[], wanted: number): number {
  let share = 1;
  while (share < wanted && sumOf(counts, share + 1) <= wanted) share++;
  return share;
}

class Judge {
  count = 0;
  readonly #scene: CrashScene;
  readonly #seen = new Set<string>();
  /** Digests of images that were found sound: most states share all files but one. */
  readonly #sound = new Set<string>();

  constructor(scene: CrashScene) {
    this.#scene = scene;
  }

  /** False where there was such a state before. */
  async look(files: Files, at: number): Promise<boolean> {
    const content = [...files].map(([name, bytes]) => `${name} ${digestOf(bytes)}`);
    const key = `${this.#scene.promise?.(at) ?? ''} ${content.join()}`;
    if (this.#seen.has(key)) return false;
    this.#seen.add(key);
    this.count++;
    const state = openState(files);
    if (!this.#scene.corrupt) await this.#checkAll(state, files);
    await this.#scene.judge(state, at);
    return true;
  }

  /** What another run leaves. */
  async finish(files: Files): Promise<Files> {
    const state = openState(files);
    await this.#scene.finish(state);
    const finished = filesIn(state, files.keys());
    await this.#checkAll(state, finished);
    return finished;
  }

  async #checkAll(host: MemoryHost, files: Files): Promise<void> {
    const unknown = [...files].filter(([, bytes]) => !this.#sound.has(digestOf(bytes)));
    for (const [name] of unknown) await expectSound(host, name);
    for (const [, bytes] of unknown) this.#sound.add(digestOf(bytes));
  }
}

/** Throws for the first image that a check finds more than leaks in. */
export async function expectSoundFiles(files: Files): Promise<void> {
  for (const name of files.keys()) await expectSound(openState(files), name);
}

/** Most states have most files in common, and those are never changed. */
const digests = new WeakMap<Uint8Array, string>();

function digestOf(bytes: Uint8Array): string {
  let digest = digests.get(bytes);
  if (digest === undefined) {
    digest = createHash('sha1').update(bytes).digest('base64');
    digests.set(bytes, digest);
  }
  return digest;
}

export function isQcow2(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, 4)).toString('latin1') === 'QFI\xfb';
}

/** An image opens, and a check finds leaks at most. */
async function expectSound(host: MemoryHost, name: string): Promise<void> {
  if (!isQcow2(host.fileBytes(name) ?? new Uint8Array())) return;
  const openDataFile = (data: string | null) =>
    host.openStorage(`/${data ?? ''}`, { writable: false });
  const storage = await host.openStorage(name, { writable: false });
  const image = await Qcow2Image.open(storage, { openDataFile });
  // Refcounts of a dirty image wait to be rebuilt.
  if (image.dirty) return;
  const findings: string[] = [];
  const { corruptions, checkErrors } = await checkImage(image, (text) => findings.push(text));
  if (corruptions + checkErrors > 0) {
    throw new Error(`${name} has ${corruptions} corruptions:\n${findings.join('\n')}`);
  }
}
