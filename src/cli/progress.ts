// The progress line of qemu-img: `    (12.34/100%)` and a carriage return, in steps of more than 1 %,
// and in floats of 32 bits, as QEMU counts, so that the digits are the same.

import type { CommitProgress } from '../commit/progress.ts';
import { twoDecimals } from './fixed.ts';
import type { ProgramContext } from './program.ts';

const STEP = 1;
const float = Math.fround;

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
    this.#percent = total === 0 ? 0 : Math.min(100, float(float(float(done) / float(total)) * 100));
    if (this.#enabled) this.#print(this.#percent);
    else if (this.#wanted) {
      this.#wanted = false;
      this.#program.err(`    (${twoDecimals(this.#percent)}/100%)\n`);
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
    if (!first && !last && percent <= float(this.#shown + STEP)) return;
    this.#shown = percent;
    this.#program.out(`    (${twoDecimals(percent)}/100%)\r`);
    this.#program.flush?.();
  }
}
