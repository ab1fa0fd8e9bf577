// The progress line of qemu-img where work is counted in steps that are added up, in floats of 32
// bits, as QEMU adds them, so that the digits are the same.

import { twoDecimals } from './fixed.ts';
import type { ProgramContext } from './program.ts';

const float = Math.fround;

export class StepProgress {
  readonly #program: ProgramContext;
  readonly #enabled: boolean;
  readonly #least: number;
  #percent = 0;
  #shown = 0;
  #done = 0;
  #wanted = false;

  /** A line is printed when it is `least` percent further than the last one, and more. */
  constructor(program: ProgramContext, enabled: boolean, least: number) {
    this.#program = program;
    this.#enabled = enabled;
    this.#least = least;
  }

  start(): void {
    this.#print();
  }

  reached(done: number, total: number): void {
    this.add(float(float(float(done - this.#done) / float(total)) * 100));
    this.#done = done;
  }

  /** `percent` further. */
  add(percent: number): void {
    const now = float(this.#percent + float(float(float(percent) / 100) * 100));
    this.#percent = Math.min(100, now);
    if (this.#percent > float(this.#shown + this.#least) || this.#percent === 100) this.#print();
  }

  /** The next step prints one line, progress wanted or not (SIGUSR1). */
  showNext(): void {
    this.#wanted = true;
  }

  done(): void {
    this.#percent = 100;
    this.#print();
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
