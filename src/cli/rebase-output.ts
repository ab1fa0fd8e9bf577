// What a rebase prints: its progress, and what it would do.

import type { CommitProgress } from '../commit/progress.ts';
import type { RebaseResult } from '../commit/rebase-options.ts';
import { ImageError } from '../errors.ts';
import { nodeHost } from '../nbd/node-host.ts';
import { humanBytes } from './plan-output.ts';
import type { ProgramContext } from './program.ts';
import { ProgressBar } from './progress-bar.ts';
import { StepProgress } from './step-progress.ts';
import { stdoutTerminal } from './terminal.ts';

const MIB = 1024 * 1024;
/** The most that QEMU compares at once. */
const STEP = 2 * MIB;
const float = Math.fround;

/** A bar on a terminal, else QEMU's line, step by step. */
export class RebaseProgress {
  readonly #steps: StepProgress;
  readonly #bar: ProgressBar | undefined;

  constructor(program: ProgramContext, shown: boolean) {
    const asBar = shown && !program.asQemu && stdoutTerminal(program.env).isTerminal;
    const columns = () => stdoutTerminal(program.env).columns;
    this.#bar = asBar ? new ProgressBar(program, columns, () => nodeHost.now()) : undefined;
    this.#steps = new StepProgress(program, shown && !asBar, 1);
  }

  start(): void {
    this.#steps.start();
  }

  readonly onProgress = (now: CommitProgress): void => this.#bar?.update(now);

  readonly onSteps = (count: number, diskSize: number): void => {
    const share = 100 / Math.floor(diskSize / Math.min(diskSize, STEP));
    for (let i = 0; i < count; i++) this.#steps.add(float(share));
  };

  showNext(): void {
    (this.#bar ?? this.#steps).showNext();
  }

  done(): void {
    this.#steps.done();
  }

  /** That the last step failed is no reason for QEMU not to call it done. */
  failed(error: unknown): void {
    const isLast = error instanceof ImageError && /^Could not change the back/.test(error.message);
    if (isLast) this.done();
  }

  end(): void {
    this.#bar?.end();
    this.#steps.end();
  }
}

export function describeRebase(result: RebaseResult): string {
  const { oldBackingFile: old, backingFile, backingFormat, unsafe } = result;
  const now = backingFile === null ? 'none' : `${backingFile} (${backingFormat})`;
  const lines = [
    `image: ${result.overlay}`,
    `backing file: ${old ?? 'none'} -> ${now}`,
    ...(unsafe
      ? ['unsafe: nothing is compared or copied']
      : [
          `compare: ${humanBytes(result.comparedBytes)}`,
          `copy: ${humanBytes(result.copiedBytes)}`,
          `zero: ${humanBytes(result.zeroedBytes)}`,
        ]),
    ...result.refusals.map((reason) => `refused: ${reason}`),
  ];
  return `${lines.join('\n')}\n`;
}
