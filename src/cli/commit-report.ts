// What a commit tells while it runs and when it has ended: to people, or as JSON lines.

import type { CommitPlan } from '../commit/options.ts';
import type { CommitProgress } from '../commit/progress.ts';
import { ImageError } from '../errors.ts';
import { hintFor } from './hints.ts';
import { warner } from './open-named.ts';
import { humanBytes, planMembers } from './plan-output.ts';
import type { ProgramContext } from './program.ts';

export interface CommitReport {
  planned(plan: CommitPlan): void;
  warned(message: string, advice: string): void;
  progress(now: CommitProgress): void;
  /** Progress is wanted now, whether it is shown or not (SIGUSR1). */
  showNext(): void;
  done(plan: CommitPlan): void;
  failed(error: unknown): void;
  stopped(message: string): void;
}

/** Milliseconds between two lines of progress. */
const INTERVAL = 100;

/**
 * One object for each line of stdout, its `type` first: `plan`, `progress`, `warning`, `result`,
 * `error`. With `quiet` only warnings and errors.
 */
export class JsonReport implements CommitReport {
  readonly #program: ProgramContext;
  readonly #quiet: boolean;
  readonly #now: () => number;
  #planTold = false;
  #lastTime = Number.NEGATIVE_INFINITY;
  #told: CommitProgress | undefined;
  #latest: CommitProgress | undefined;

  constructor(program: ProgramContext, quiet: boolean, now: () => number) {
    this.#program = program;
    this.#quiet = quiet;
    this.#now = now;
  }

  planned(plan: CommitPlan): void {
    this.#planTold = true;
    this.#line('plan', planMembers(plan));
    for (const message of planWarnings(plan)) this.#line('warning', { message });
  }

  warned(message: string, advice: string): void {
    this.#line('warning', { message: `${message}. ${advice}` });
  }

  progress(now: CommitProgress): void {
    this.#latest = now;
    if (this.#now() - this.#lastTime >= INTERVAL) this.#tellProgress();
  }

  showNext(): void {
    this.#lastTime = Number.NEGATIVE_INFINITY;
  }

  #tellProgress(): void {
    const { done, total, rate, secondsLeft } = this.#latest as CommitProgress;
    this.#lastTime = this.#now();
    this.#told = this.#latest;
    this.#line('progress', { done, total, rate, 'seconds-left': secondsLeft ?? null });
  }

  done(plan: CommitPlan): void {
    // A rerun that has nothing left but to remove files is not planned anew.
    if (!this.#planTold) this.planned(plan);
    if (this.#latest !== this.#told) this.#tellProgress();
    const members = planMembers(plan);
    const { base, relinks, empties, invalidates, deletes } = members;
    const identical = { 'identical-bytes': members['identical-bytes'] };
    this.#line('result', { base, ...identical, relinks, empties, invalidates, deletes });
  }

  failed(error: unknown): void {
    if (!(error instanceof ImageError)) return;
    const { code, message, holders } = error;
    const hint = error.hint ?? hintFor(error) ?? null;
    this.#line('error', { code, message, hint, ...(holders.length > 0 && { holders }) });
  }

  stopped(message: string): void {
    const hint = 'Run the same command again to continue.';
    this.#line('error', { code: 'cancelled', message, hint });
  }

  #line(type: string, members: object): void {
    if (this.#quiet && type !== 'warning' && type !== 'error') return;
    this.#program.out(`${JSON.stringify({ type, ...members })}\n`);
  }
}

function planWarnings({ siblings, unread, bitmapsLeft }: CommitPlan): readonly string[] {
  return [
    ...siblings.map((name) => `'${name}' will see other data from now on`),
    ...unread.map((name) => `'${name}' could not be read: it may depend on the base, too`),
    ...bitmapsLeft,
  ];
}

/** The way progress is shown to people. */
interface Shown {
  update(now: CommitProgress): void;
  showNext(): void;
  end(success: boolean): void;
}

export class TextReport implements CommitReport {
  readonly #program: ProgramContext;
  readonly #quiet: boolean;
  readonly #shown: Shown;

  constructor(program: ProgramContext, quiet: boolean, shown: Shown) {
    this.#program = program;
    this.#quiet = quiet;
    this.#shown = shown;
  }

  planned(plan: CommitPlan): void {
    if (this.#program.asQemu) return;
    for (const message of planWarnings(plan)) this.#tell(`warning: ${message}`);
  }

  warned(message: string, advice: string): void {
    warner(this.#program)(message, advice);
  }

  progress(now: CommitProgress): void {
    this.#shown.update(now);
  }

  showNext(): void {
    this.#shown.showNext();
  }

  done({ relinks, invalidates, deletes, merged, siblingCopies, identicalBytes }: CommitPlan): void {
    this.#shown.end(true);
    if (this.#quiet) return;
    this.#program.out('Image committed.\n');
    if (this.#program.asQemu) return;
    const names = (files: readonly string[]) => files.map((name) => `'${name}'`).join(', ');
    if (identicalBytes !== null) {
      this.#tell(`not written again: ${humanBytes(identicalBytes)} that the base held already`);
    }
    for (const { filename, copyBytes } of siblingCopies) {
      this.#tell(`'${filename}' keeps what it shows: ${humanBytes(copyBytes)} copied into it`);
    }
    for (const { overlay, backingFile } of relinks) {
      this.#tell(`'${overlay}' now has the backing file '${backingFile}'`);
    }
    if (deletes.length > 0) this.#tell(`deleted: ${names(deletes)}`);
    else if (invalidates.length > 0 && relinks.length > 0) {
      this.#tell(`no longer needed: ${names(invalidates)}`);
    } else if (invalidates.length > 0) {
      this.#tell(
        `no longer valid by itself: ${names(invalidates)} ` +
          `('${merged[0]}' still stands on it; --relink makes it independent)`,
      );
    }
  }

  failed(): void {
    this.#shown.end(false);
  }

  stopped(): void {
    this.#shown.end(false);
  }

  #tell(line: string): void {
    this.#program.err(`${this.#program.name}: ${line}\n`);
  }
}
