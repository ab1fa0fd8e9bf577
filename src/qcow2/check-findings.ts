// What a check found: told as it is found, and counted.

/** What a message is about; `check-error`: something could not be checked. */
export type FindingKind = 'corruption' | 'leak' | 'check-error';

export type Tell = (message: string, kind: FindingKind) => void;

export interface CheckResult {
  readonly corruptions: number;
  readonly leaks: number;
  /** What could not be checked. */
  readonly checkErrors: number;
  /** Clusters of the virtual disk. */
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  /** First byte after the last cluster in use. */
  readonly imageEndOffset: number;
}

/** A hostile image has room for billions of errors. */
const MAX_MESSAGES = 1_000_000;

export class Findings {
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  corruptionsFixed = 0;
  leaksFixed = 0;
  readonly #tell: Tell;
  #messages = 0;

  constructor(tell: Tell) {
    this.#tell = tell;
  }

  /** Words are made only where they are told. */
  readonly tell = (message: string | (() => string), kind: FindingKind): void => {
    this.#messages++;
    if (this.#messages > MAX_MESSAGES + 1) return;
    const isLast = this.#messages === MAX_MESSAGES + 1;
    const words = typeof message === 'string' ? message : message();
    this.#tell(isLast ? '(further messages are left out)' : words, kind);
  };

  /** `times` that are told about only once. */
  readonly corrupt = (message: string | (() => string) | null, times = 1): void => {
    if (message !== null) this.tell(message, 'corruption');
    this.corruptions += times;
  };
}

/** How the active state lies in the file. */
export class Usage {
  allocated = 0;
  fragmented = 0;
  compressed = 0;
  readonly #clusterSize: number;

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  add(host: number | null, previous: number | null, times: number): void {
    this.allocated += times;
    if (host === null) {
      this.compressed += times;
      // They share sectors, and so are fragmented by nature.
      this.fragmented += times;
    } else if (previous !== null && host !== previous + this.#clusterSize) {
      this.fragmented += times;
    }
  }
}
