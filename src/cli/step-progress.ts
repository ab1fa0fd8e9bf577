// The progress line of qemu-img where work is counted in steps that are added up: in steps of more
// than 2 %, and in floats of 32 bits, as QEMU adds them, so that the digits are the same.

import { twoDecimals } from './fixed.ts';
import type { ProgramContext } from './program.ts';

const STEP = 2;
const float = Math.fround;

export class StepProgress {
  readonly #program: ProgramContext;
  readonly #enabled: boolean;
  #percent = 0;
  #shown = 0;
  #done = 0;
  #wanted = false;

  constructor(program: ProgramContext, enabled: boolean) {
    this.#program = program;
    this.#enabled = enabled;
  }

  start(): void {
    this.#print();
  }

  reached(done: number, total: number): void {
    const share = float(float(float(done - this.#done) / float(total)) * 100);
    this.#done = done;
    const percent = float(this.#percent + float(float(share / 100) * 100));
    this.#percent = Math.min(100, percent);
    if (this.#percent > float(this.#shown + STEP) || this.#percent === 100) this.#print();
  }

  /** The next step prints one line, progress wanted or not (SIGUSR1). */
  showNext(): void {
    this.#wanted = true;
  }

  /** Whether or not anything was printed. */
  end(): void {
    if (this.#enabled) this.#program.out('\n');
  }

  #print(): void {
    this.#shown = this.#percent;
    const text = `    (${twoDecimals(this.#percent)}/100%)`;
    if (this.#enabled) {
      this.#program.out(`${text}\r`);
      this.#program.flush?.();
    } else if (this.#wanted) {
      this.#wanted = false;
      this.#program.err(`${text}\n`);
    }
  }
}
