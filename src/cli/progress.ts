// The progress line of qemu-img: `    (12.34/100%)` and a carriage return, in steps of 1 % at least.

import type { CommitProgress } from '../commit/copy.ts';
import type { ProgramContext } from './program.ts';

const STEP = 1;

export class ProgressLine {
  readonly #program: ProgramContext;
  readonly #enabled: boolean;
  #percent = 0;
  #shown = Number.NEGATIVE_INFINITY;
  #wanted = false;

  constructor(program: ProgramContext, enabled: boolean) {
    this.#program = program;
    this.#enabled = enabled;
  }

  update({ done, total }: CommitProgress): void {
    this.#percent = total === 0 ? 0 : Math.min(100, (done / total) * 100);
    if (this.#enabled) this.#print(this.#percent);
    else if (this.#wanted) {
      this.#wanted = false;
      this.#program.err(`    (${this.#percent.toFixed(2)}/100%)\n`);
    }
  }

  /** The next update prints one line, progress wanted or not (SIGUSR1). */
  showNext(): void {
    this.#wanted = true;
  }

  end(success: boolean): void {
    if (!this.#enabled) return;
    if (success) this.#print(100);
    if (this.#shown >= 0) this.#program.out('\n');
  }

  #print(percent: number): void {
    const first = this.#shown < 0;
    const last = percent === 100 && this.#shown !== 100;
    if (!first && !last && percent < this.#shown + STEP) return;
    this.#shown = percent;
    this.#program.out(`    (${percent.toFixed(2)}/100%)\r`);
    this.#program.flush?.();
  }
}
