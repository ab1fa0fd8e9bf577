// Two repairs of one damaged image, ours and qemu-img's, and which is better: what a check finds
// afterwards, what the guest and its snapshots see, what is still there by name, the exit codes.
// QEMU's programs are the judges of both.

import { execFile } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { asQemu } from './cli.ts';
import { makeBase, makeImage } from './damage-images.ts';
import type { Outcome } from './qemu.ts';

const SLICE = 512;
const MAX_COMPARED = 2 ** 30;
/** A damaged image may keep a program busy. */
const PATIENCE_MS = 120_000;

/** The code -1: it fell over, or never ended. */
type Ran = Pick<Outcome, 'code' | 'stdout'>;

/** What is left of an image. */
export interface State {
  readonly exit: number;
  /** It can be checked at all. */
  readonly opens: boolean;
  readonly corruptions: number;
  readonly leaks: number;
  /** Names of snapshots and of bitmaps that can be used. */
  readonly names: ReadonlySet<string>;
  /** The disk, then each snapshot; null where it can't be opened. */
  readonly views: readonly (Buffer | null)[];
}

export interface Verdict {
  /** `mixed`: each left something that the other did not. */
  readonly kind: 'same' | 'better' | 'mixed' | 'worse';
  readonly better: readonly string[];
  readonly worse: readonly string[];
  readonly ours: State;
  readonly theirs: State;
}

interface Info {
  readonly snapshots?: readonly { readonly name: string }[];
  readonly 'format-specific'?: {
    readonly data?: {
      readonly bitmaps?: readonly { readonly name: string; readonly flags: readonly string[] }[];
    };
  };
}

function parsed<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}

export class Judge {
  readonly #dir: string;
  readonly #ours: ReturnType<typeof asQemu>;
  #sound: State | undefined;

  /** `dir`: empty, for this judge alone. */
  constructor(dir: string, ours: ReturnType<typeof asQemu>) {
    this.#dir = dir;
    this.#ours = ours;
  }

  /** Makes the image that is damaged from now on; returns its bytes. */
  async begin(name: string): Promise<Buffer> {
    for (const file of ['base.raw', 'sound']) rmSync(join(this.#dir, file), { force: true });
    await makeBase(this.#dir);
    await makeImage(this.#dir, name, 'sound');
    this.#sound = await this.#stateOf('sound', 0);
    return readFileSync(join(this.#dir, 'sound'));
  }

  async judge(damaged: Buffer): Promise<Verdict> {
    for (const file of ['ours', 'theirs']) writeFileSync(join(this.#dir, file), damaged);
    const mine = await this.#ours.run(['check', '-r', 'all', '-f', 'qcow2', 'ours'], this.#dir);
    const other = await this.#qemuImg('check', '-r', 'all', '-f', 'qcow2', 'theirs');
    const theirs = await this.#stateOf('theirs', other.code);
    // Most of what can't be opened at all stays as it is.
    const isAlike = this.#areAlike('ours', 'theirs');
    const ours = isAlike ? { ...theirs, exit: mine.code } : await this.#stateOf('ours', mine.code);
    return this.compare(ours, theirs);
  }

  #areAlike(...files: readonly [string, string]): boolean {
    const [one, other] = files.map((file) => join(this.#dir, file)) as [string, string];
    const { size } = statSync(one);
    // A repair may leave a file that is mostly a hole.
    if (statSync(other).size !== size || size > MAX_COMPARED) return false;
    return readFileSync(one).equals(readFileSync(other));
  }

  /** What a repair with that exit code would have left. */
  async look(bytes: Buffer, exit: number): Promise<State> {
    writeFileSync(join(this.#dir, 'looked-at'), bytes);
    return await this.#stateOf('looked-at', exit);
  }

  /** Which of two repairs left more. */
  compare(ours: State, theirs: State): Verdict {
    const better = this.#leads(ours, theirs);
    const worse = this.#leads(theirs, ours);
    if (better.length === 0 && worse.length === 0 && ours.exit !== theirs.exit) {
      const isOurs = rankOf(ours.exit) < rankOf(theirs.exit);
      const [one, other] = isOurs ? [ours, theirs] : [theirs, ours];
      (isOurs ? better : worse).push(`exit code ${one.exit}, not ${other.exit}`);
    }
    return { kind: kindOf(better, worse), better, worse, ours, theirs };
  }

  /** In what one state has more of the sound image than the other. */
  #leads(one: State, other: State): string[] {
    const sound = this.#sound;
    if (sound === undefined) throw new Error('no image');
    const leads: string[] = [];
    if (one.opens !== other.opens) {
      if (one.opens) leads.push('can be opened');
    } else if (one.corruptions !== other.corruptions) {
      if (one.corruptions < other.corruptions) {
        leads.push(`${one.corruptions} corruptions left, not ${other.corruptions}`);
      }
    } else if (one.leaks < other.leaks) {
      leads.push(`${one.leaks} leaks left, not ${other.leaks}`);
    }
    for (const name of sound.names) {
      if (one.names.has(name) && !other.names.has(name)) leads.push(`has ${name}`);
    }
    for (const [i, view] of sound.views.entries()) {
      const [mine, its] = [one.views[i] ?? null, other.views[i] ?? null];
      const more = view === null ? [] : rightOnlyIn(view, mine, its);
      const what = i === 0 ? 'the disk' : `snapshot ${i}`;
      if (more.length > 0) {
        leads.push(`${more.length} sectors more of ${what}, from ${(more[0] ?? 0) * SLICE}`);
      }
    }
    return leads;
  }

  async #stateOf(file: string, exit: number): Promise<State> {
    const check = await this.#qemuImg('check', '--output=json', '-f', 'qcow2', file);
    const counts = parsed<Record<string, number>>(check.stdout);
    const names = await this.#namesIn(file);
    const views = [await this.#viewOf(file)];
    for (const name of ['first', 'second']) {
      views.push(names.has(`snapshot ${name}`) ? await this.#viewOf(file, name) : null);
    }
    return {
      exit,
      opens: counts !== undefined,
      corruptions: (counts?.['corruptions'] ?? 0) + (counts?.['check-errors'] ?? 0),
      leaks: counts?.['leaks'] ?? 0,
      names,
      views,
    };
  }

  async #namesIn(file: string): Promise<ReadonlySet<string>> {
    const { stdout } = await this.#qemuImg('info', '--output=json', '-f', 'qcow2', file);
    const info = parsed<Info>(stdout);
    const bitmaps = info?.['format-specific']?.data?.bitmaps ?? [];
    return new Set([
      ...(info?.snapshots ?? []).map(({ name }) => `snapshot ${name}`),
      ...bitmaps
        .filter(({ flags }) => !flags.includes('in-use'))
        .map(({ name }) => `bitmap ${name}`),
    ]);
  }

  /** What can't be read are zeros. */
  async #viewOf(file: string, snapshot?: string): Promise<Buffer | null> {
    const out = join(this.#dir, 'view');
    rmSync(out, { force: true });
    const of = snapshot === undefined ? [] : ['-l', `snapshot.name=${snapshot}`];
    await this.#qemuImg('convert', '--salvage', '-f', 'qcow2', '-O', 'raw', ...of, file, 'view');
    return existsSync(out) ? readFileSync(out) : null;
  }

  #qemuImg(...args: readonly string[]): Promise<Ran> {
    const options = { cwd: this.#dir, timeout: PATIENCE_MS, maxBuffer: 64 * 1024 * 1024 };
    return new Promise((resolve) => {
      execFile('qemu-img', [...args], options, (error, stdout) => {
        const code = typeof error?.code === 'number' ? error.code : -1;
        resolve({ code: error === null ? 0 : code, stdout });
      });
    });
  }
}

function kindOf(better: readonly string[], worse: readonly string[]): Verdict['kind'] {
  if (worse.length === 0) return better.length === 0 ? 'same' : 'better';
  return better.length === 0 ? 'worse' : 'mixed';
}

/** Sound, leaks, corruptions, neither, fallen over. */
function rankOf(exit: number): number {
  const rank = [0, 3, 2, 1, 63].indexOf(exit);
  return rank < 0 ? 9 : rank;
}

/** Indexes of the sectors that are right in one view and not in the other. */
function rightOnlyIn(sound: Buffer, one: Buffer | null, other: Buffer | null): readonly number[] {
  if (one === null) return [];
  const found: number[] = [];
  for (let at = 0; at < sound.length; at += SLICE) {
    const wanted = sound.subarray(at, at + SLICE);
    const isRight = (view: Buffer | null) =>
      view !== null && wanted.equals(view.subarray(at, at + SLICE));
    if (isRight(one) && !isRight(other)) found.push(at / SLICE);
  }
  return found;
}
