// A job at work: drives the state machine (commit/job.ts), tells what happens, and lets the work wait
// for its speed, for its rest and for those who give it orders.

import {
  createJob,
  type JobInput,
  type JobState,
  type NewJob,
  type Operation,
  type Stepped,
  stepJob,
  TAKEN_IN,
  VerbError,
  wantsPause,
} from '../commit/job.ts';
import type { LiveControl } from '../commit/live.ts';
import type { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { charge, INITIAL, type ThrottleState } from '../io/throttle.ts';
import { DaemonError, wordsOf } from './daemon-error.ts';
import { type EventSink, eventOf } from './job-events.ts';

/** What a job does. */
export interface JobWork {
  readonly type: 'commit';
  /** Bytes that it goes through. */
  readonly length: number;
  /** False where it was told to end before. */
  run(control: LiveControl): Promise<boolean>;
  /** The last step, when all has been done; what it rejects with fails the job. */
  finalize(): Promise<void>;
  /** The job fails or was cancelled. */
  undo(): Promise<void>;
}

export interface JobMachine {
  readonly clock: Pick<Host, 'now' | 'sleep'>;
  readonly emit: EventSink;
  /** Hears what no client asked about. */
  readonly warn?: ((message: string) => void) | undefined;
  /** It is over, and nobody has to be told any more. */
  readonly onGone: (job: Job) => void;
}

/** Retries of a job that ignores errors come after so long, in milliseconds, doubling. */
const FIRST_BACKOFF = 100;
const LONGEST_BACKOFF = 10_000;
/** One sleep at a time; timers end early where they are longer. */
const LONGEST_SLEEP = 3_600_000;

export class Job implements LiveControl {
  readonly type = 'commit';
  readonly #machine: JobMachine;
  #state: JobState;
  #work: JobWork | undefined;
  #throttle: ThrottleState = INITIAL;
  /** When the bytes that were charged have had their time. */
  #due = Number.NEGATIVE_INFINITY;
  #backoff = 0;
  /** It waits; `timer`: for a moment that will come by itself. */
  #sleep: { readonly wake: AbortController; readonly timer: boolean } | undefined;
  #over: Promise<void> = Promise.resolve();

  constructor(job: NewJob, machine: JobMachine) {
    this.#machine = machine;
    const created = createJob(job);
    this.#state = created.state;
    this.#tell(created);
  }

  get id(): string {
    return this.#state.id;
  }

  get state(): JobState {
    return this.#state;
  }

  /** It works right now, or waits for the machine. */
  get busy(): boolean {
    const { status } = this.#state;
    return (status === 'running' || status === 'ready') && this.#sleep === undefined;
  }

  /** It was created, but something spoke against it. */
  refused(): void {
    this.#step({ at: 'refused' });
  }

  start(work: JobWork): void {
    this.#work = work;
    this.#step({ at: 'start', length: work.length });
    this.#over = this.#run(work);
  }

  async #run(work: JobWork): Promise<void> {
    let error: string | undefined;
    try {
      // Whoever started it hears that it runs before it hears more.
      await this.#machine.clock.sleep(0);
      await work.run(this);
    } catch (thrown) {
      error = wordsOf(thrown);
    }
    this.#step({ at: 'end', ...(error !== undefined && { error }) });
    await this.#settle(work);
  }

  /** What is to be done at its end, in the state that it is in. */
  async #settle(work: JobWork): Promise<void> {
    if (this.#state.finalizing) {
      let error: string | undefined;
      try {
        await work.finalize();
      } catch (thrown) {
        error = wordsOf(thrown);
      }
      this.#step({ at: 'finalized', ...(error !== undefined && { error }) });
    }
    if (this.#state.status !== 'aborting') return;
    await work.undo().catch(() => undefined);
    this.#step({ at: 'undone' });
  }

  // Orders, as the commands of their names have them.

  pause(): void {
    this.#command({ verb: 'pause' });
    if (this.#sleep !== undefined) this.#step({ at: 'pause-point' });
    this.#wake();
  }

  resume(): void {
    this.#command({ verb: 'resume' });
    this.#backoff = 0;
    this.#wake();
  }

  setSpeed(speed: number): void {
    const before = this.#state.speed;
    this.#command({ verb: 'set-speed', speed });
    this.#throttle = INITIAL;
    if (speed > 0 && speed <= before) return;
    this.#due = Number.NEGATIVE_INFINITY;
    if (this.#sleep?.timer) this.#wake();
  }

  /** Resolves when it has come to its end, where it was not just at work. */
  async cancel(): Promise<void> {
    this.#command({ verb: 'cancel' });
    const waits = this.#sleep !== undefined;
    this.#wake();
    if (this.#state.status === 'aborting' && this.#work !== undefined) {
      this.#over = this.#settle(this.#work);
      await this.#over;
    } else if (waits) await this.#over;
  }

  complete(): void {
    this.#command({ verb: 'complete' });
  }

  async finalize(): Promise<void> {
    this.#command({ verb: 'finalize' });
    if (this.#work === undefined) return;
    this.#over = this.#settle(this.#work);
    await this.#over;
  }

  dismiss(): void {
    this.#command({ verb: 'dismiss' });
  }

  /** Ends it, whatever it does, and resolves when it is gone. */
  async end(): Promise<void> {
    const { status, finalizing } = this.#state;
    if (TAKEN_IN.cancel.some((each) => each === status) && !finalizing) await this.cancel();
    await this.#over;
    if (this.#state.status === 'concluded') this.dismiss();
  }

  /** Told of at the end of the daemon, as by QEMU: it rests until the function is called. */
  drain(): () => void {
    const { id, status } = this.#state;
    const rest = status === 'running' ? 'paused' : status === 'ready' ? 'standby' : undefined;
    if (rest === undefined) return () => undefined;
    const tell = (now: string) => this.#machine.emit('JOB_STATUS_CHANGE', { status: now, id });
    tell(rest);
    return () => tell(status);
  }

  // What its work asks of it.

  async turn(): Promise<boolean> {
    for (;;) {
      if (this.#state.cancelled) return false;
      this.#step({ at: 'pause-point' });
      if (wantsPause(this.#state)) await this.#rest();
      else {
        const left = this.#due - this.#machine.clock.now();
        if (left <= 0) return true;
        await this.#rest(left);
      }
    }
  }

  charge(bytes: number): void {
    this.#backoff = 0;
    const { speed } = this.#state;
    if (speed === 0) return;
    const now = this.#machine.clock.now();
    const { state, waitMs } = charge(this.#throttle, now, bytes, speed);
    this.#throttle = state;
    this.#due = now + waitMs;
  }

  progress(bytes: number): void {
    this.#step({ at: 'progress', bytes });
  }

  async failed(error: ImageError, operation: Operation): Promise<boolean> {
    const noSpace = error.errno === 'ENOSPC' || error.code === 'no-space';
    const { action } = this.#step({ at: 'io-error', operation, noSpace });
    if (action === 'ignore') {
      // QEMU tries again at once, for ever: a processor at full load, and a flood of events.
      if (this.#backoff === 0) {
        this.#machine.warn?.(
          `Job '${this.id}' tries again, more and more seldom: ${error.message}`,
        );
      }
      this.#backoff = Math.min(LONGEST_BACKOFF, Math.max(FIRST_BACKOFF, this.#backoff * 2));
      this.#due = this.#machine.clock.now() + this.#backoff;
    }
    return action !== 'report';
  }

  /** Until somebody wakes it, or for a time. */
  async #rest(milliseconds?: number): Promise<void> {
    const wake = new AbortController();
    this.#sleep = { wake, timer: milliseconds !== undefined };
    try {
      if (milliseconds === undefined) {
        await new Promise((resolve) => wake.signal.addEventListener('abort', resolve));
      } else {
        const time = Math.min(milliseconds, LONGEST_SLEEP);
        await this.#machine.clock.sleep(time, wake.signal);
      }
    } catch (error) {
      if (!wake.signal.aborted) throw error;
    } finally {
      this.#sleep = undefined;
    }
  }

  #wake(): void {
    this.#sleep?.wake.abort();
  }

  #command(input: Extract<JobInput, { verb: unknown }>): void {
    try {
      this.#step(input);
    } catch (error) {
      throw error instanceof VerbError ? new DaemonError(error.message) : error;
    }
  }

  #step(input: JobInput): Stepped {
    const stepped = stepJob(this.#state, input);
    this.#state = stepped.state;
    this.#tell(stepped);
    return stepped;
  }

  #tell({ events }: Stepped): void {
    for (const event of events) {
      const { name, data } = eventOf(event, this.#state, this.type);
      this.#machine.emit(name, data);
    }
    if (this.#state.status === 'null') this.#machine.onGone(this);
  }
}
