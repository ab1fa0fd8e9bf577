// The progress of a commit on a terminal: one line, redrawn in place and cleared in the end.

import type { CommitProgress } from '../commit/progress.ts';
import { humanBytes } from './plan-output.ts';
import type { ProgramContext } from './program.ts';

/** Milliseconds between two drawings. */
const INTERVAL = 100;
const WIDEST_BAR = 40;
const LEAST_BAR = 8;
const CLEAR = '\r\x1b[K';

export class ProgressBar {
  readonly #program: Pick<ProgramContext, 'out' | 'err'>;
  readonly #columns: () => number;
  readonly #now: () => number;
  #lastTime = Number.NEGATIVE_INFINITY;
  #drawn = false;
  #wanted = false;

  /** `columns` is asked each time: windows change their size. */
  constructor(
    program: Pick<ProgramContext, 'out' | 'err'>,
    columns: () => number,
    now: () => number,
  ) {
    this.#program = program;
    this.#columns = columns;
    this.#now = now;
  }

  update(progress: CommitProgress): void {
    if (this.#wanted) {
      this.#wanted = false;
      this.#clear();
      this.#program.err(`${factsOf(progress).join('  ')}\n`);
      this.#lastTime = Number.NEGATIVE_INFINITY;
    }
    if (this.#now() - this.#lastTime < INTERVAL) return;
    this.#lastTime = this.#now();
    this.#drawn = true;
    this.#program.out(CLEAR + barLine(progress, this.#columns()));
  }

  /** The next update prints one line that stays (SIGUSR1). */
  showNext(): void {
    this.#wanted = true;
  }

  end(): void {
    this.#clear();
  }

  #clear(): void {
    if (this.#drawn) this.#program.out(CLEAR);
    this.#drawn = false;
  }
}

function shareOf({ done, total }: CommitProgress): number {
  return total === 0 ? 0 : Math.min(1, done / total);
}

/** Percent, bytes, rate, time left: the first ones matter most. */
function factsOf(progress: CommitProgress): readonly string[] {
  const { done, total, rate, secondsLeft } = progress;
  const percent = `${Math.floor(shareOf(progress) * 100)}%`.padStart(4);
  const facts = [percent, `${humanBytes(done)} of ${humanBytes(total)}`];
  if (rate > 0) facts.push(`${(rate / 1024 ** 2).toFixed(1)} MiB/s`);
  if (secondsLeft !== undefined) facts.push(`${duration(secondsLeft)} left`);
  return facts;
}

/** One column stays free: some terminals go to the next line after the last one. */
export function barLine(progress: CommitProgress, columns: number): string {
  const room = columns - 1;
  const facts = [...factsOf(progress)];
  while (facts.length > 1 && facts.join('  ').length > room) facts.pop();
  const text = facts.join('  ');
  const bar = Math.min(WIDEST_BAR, room - text.length - 3);
  if (bar < LEAST_BAR) return text.slice(0, Math.max(0, room));
  const full = Math.floor(shareOf(progress) * bar);
  return `[${'█'.repeat(full)}${'░'.repeat(bar - full)}] ${text}`;
}

export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  if (hours >= 100) return `${Math.floor(hours / 24)} days`;
  const short = `${two(whole % 60)}`;
  return hours > 0 ? `${hours}:${two(minutes)}:${short}` : `${minutes}:${short}`;
}
