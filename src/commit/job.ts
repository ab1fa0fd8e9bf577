// The state machine of a job, as QEMU has it: which state follows which, which command is taken in
// which state and with which words it is refused, and what is told of it. Pure: a step takes a state
// and gives the next one and what happened; who runs the job (daemon/jobs.ts) does the work.
//
//   created --> running <--> paused        ready <--> standby
//                  |  \---------------------^ |
//                  v                          v
//               waiting <---------------------/
//                  v
//               pending --> concluded --> null        aborting, from all but paused and standby,
//                                                     and on to concluded

export const STATUSES = [
  'undefined',
  'created',
  'running',
  'paused',
  'ready',
  'standby',
  'waiting',
  'pending',
  'aborting',
  'concluded',
  'null',
] as const;
export type JobStatus = (typeof STATUSES)[number];

/** What may follow each state. */
export const FOLLOWING: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  undefined: ['created'],
  created: ['running', 'aborting', 'null'],
  running: ['paused', 'ready', 'waiting', 'aborting'],
  paused: ['running'],
  ready: ['standby', 'waiting', 'aborting'],
  standby: ['ready'],
  waiting: ['pending', 'aborting'],
  pending: ['aborting', 'concluded'],
  aborting: ['concluded'],
  concluded: ['null'],
  null: [],
};

const ALIVE = ['created', 'running', 'paused', 'ready', 'standby'] as const;

/** The states in which each command is taken. */
export const TAKEN_IN = {
  cancel: [...ALIVE, 'waiting', 'pending'],
  pause: ALIVE,
  resume: ALIVE,
  'set-speed': ALIVE,
  complete: ['ready'],
  finalize: ['pending'],
  dismiss: ['concluded'],
} as const satisfies Record<string, readonly JobStatus[]>;
export type JobVerb = keyof typeof TAKEN_IN;

/** How far its I/O has come to grief. */
export type IoStatus = 'ok' | 'failed' | 'nospace';
/** What to do where a piece could not be read or written. */
export type OnError = 'report' | 'ignore' | 'enospc' | 'stop' | 'auto';
export type ErrorAction = 'report' | 'ignore' | 'stop';

export interface JobState {
  readonly id: string;
  readonly status: JobStatus;
  readonly autoFinalize: boolean;
  readonly autoDismiss: boolean;
  readonly onError: OnError;
  /** Somebody wants it to rest; it does at the next point where it can. */
  readonly userPaused: boolean;
  readonly cancelled: boolean;
  /** The last step of its work goes on: it can't be stopped any more. */
  readonly finalizing: boolean;
  readonly ioStatus: IoStatus;
  /** Bytes done, those without work included, and of how many. */
  readonly offset: number;
  readonly length: number;
  /** Bytes per second; 0: as fast as it goes. */
  readonly speed: number;
  /** Why it failed, in the words of strerror(3). */
  readonly error: string | undefined;
}

export interface NewJob {
  readonly id: string;
  readonly autoFinalize?: boolean;
  readonly autoDismiss?: boolean;
  readonly onError?: OnError;
}

/** What is told of a job, in this order. */
export type JobEvent =
  | { readonly kind: 'status'; readonly status: JobStatus }
  | { readonly kind: 'ready' }
  | { readonly kind: 'pending' }
  | { readonly kind: 'io-error'; readonly operation: Operation; readonly action: ErrorAction }
  | { readonly kind: 'completed' }
  | { readonly kind: 'cancelled' };

export type Operation = 'read' | 'write';

export type JobInput =
  /** Commands. */
  | { readonly verb: 'cancel' | 'pause' | 'resume' | 'complete' | 'finalize' | 'dismiss' }
  | { readonly verb: 'set-speed'; readonly speed: number }
  /** What who runs it has to say. */
  | { readonly at: 'start'; readonly length: number }
  /** It was created, but can't start. */
  | { readonly at: 'refused' }
  /** Between two pieces: it may rest here. */
  | { readonly at: 'pause-point' }
  | { readonly at: 'progress'; readonly bytes: number }
  | { readonly at: 'io-error'; readonly operation: Operation; readonly noSpace: boolean }
  | { readonly at: 'in-sync' }
  /** Its work ended; with an error, or because it was cancelled, it has to be undone. */
  | { readonly at: 'end'; readonly error?: string }
  /** The last step ended: nothing is left to do. */
  | { readonly at: 'finalized'; readonly error?: string }
  /** What had to be undone is. */
  | { readonly at: 'undone' };

export interface Stepped {
  readonly state: JobState;
  readonly events: readonly JobEvent[];
  /** What an I/O error leads to. */
  readonly action?: ErrorAction;
}

/** A command that the job's state does not take; the words are QEMU's. */
export class VerbError extends Error {
  override readonly name = 'VerbError';
}

/** A job that was just created. */
export function createJob(job: NewJob): Stepped {
  const { id, autoFinalize = true, autoDismiss = true, onError = 'report' } = job;
  const step = new Step({
    ...{ id, autoFinalize, autoDismiss, onError },
    ...{ status: 'undefined', userPaused: false, cancelled: false, finalizing: false },
    ...{ ioStatus: 'ok', offset: 0, length: 0, speed: 0, error: undefined },
  });
  step.to('created');
  return step;
}

/** Throws `VerbError` where a command is refused; the state is as it was. */
export function stepJob(state: JobState, input: JobInput): Stepped {
  const step = new Step(state);
  if ('verb' in input) step.command(input);
  else step.report(input);
  return step;
}

/** It rests, or would at the next point where it can. */
export function wantsPause({ userPaused, cancelled }: JobState): boolean {
  return userPaused && !cancelled;
}

export function isReady({ status }: JobState): boolean {
  return status === 'ready' || status === 'standby';
}

class Step implements Stepped {
  state: JobState;
  readonly events: JobEvent[] = [];
  action?: ErrorAction;

  constructor(state: JobState) {
    this.state = state;
  }

  to(status: JobStatus): void {
    const from = this.state.status;
    if (from === status) return;
    if (!FOLLOWING[from].includes(status)) {
      throw new Error(`internal error: a job went from ${from} to ${status}`);
    }
    this.#set({ status });
    this.events.push({ kind: 'status', status });
  }

  command(input: Extract<JobInput, { verb: JobVerb }>): void {
    // QEMU looks at this one before the state.
    if (input.verb === 'resume' && !this.state.userPaused) {
      throw new VerbError("Can't resume a job that was not paused");
    }
    this.#check(input.verb);
    if (input.verb === 'set-speed') this.#setSpeed(input.speed);
    else if (input.verb === 'pause') this.#pause();
    else if (input.verb === 'resume') this.#resume();
    else if (input.verb === 'cancel') this.#cancel();
    else if (input.verb === 'complete') this.#refuseToComplete();
    else if (input.verb === 'finalize') this.#set({ finalizing: true });
    else this.to('null');
  }

  report(input: Exclude<JobInput, { verb: JobVerb }>): void {
    const { state } = this;
    if (input.at === 'start') {
      this.#set({ length: input.length });
      this.to('running');
    } else if (input.at === 'refused') this.to('null');
    else if (input.at === 'pause-point') this.#rest();
    else if (input.at === 'progress') this.#set({ offset: state.offset + input.bytes });
    else if (input.at === 'io-error') this.#ioError(input.operation, input.noSpace);
    else if (input.at === 'in-sync') {
      this.to('ready');
      this.events.push({ kind: 'ready' });
    } else if (input.at === 'end') this.#end(input.error);
    else if (input.at === 'finalized') this.#finalized(input.error);
    else this.#conclude();
  }

  #set(changes: Partial<JobState>): void {
    this.state = { ...this.state, ...changes };
  }

  #check(verb: JobVerb): void {
    const { id, status, finalizing } = this.state;
    const states: readonly JobStatus[] = TAKEN_IN[verb];
    if (states.includes(status) && !finalizing) return;
    throw new VerbError(`Job '${id}' in state '${status}' cannot accept command verb '${verb}'`);
  }

  #setSpeed(speed: number): void {
    if (speed < 0) throw new VerbError("Parameter 'speed' expects a non-negative value");
    this.#set({ speed });
  }

  #pause(): void {
    if (this.state.userPaused) throw new VerbError('Job is already paused');
    this.#set({ userPaused: true });
  }

  #resume(): void {
    this.#set({ userPaused: false, ioStatus: 'ok' });
    this.#wake();
  }

  /** From its rest back to what it was. */
  #wake(): void {
    if (this.state.status === 'paused') this.to('running');
    else if (this.state.status === 'standby') this.to('ready');
  }

  #cancel(): void {
    const rested = this.state.userPaused;
    this.#set({ cancelled: true, userPaused: false, ...(rested && { ioStatus: 'ok' }) });
    this.#wake();
    // Its work has ended already: what is left is to undo it.
    if (this.state.status === 'waiting' || this.state.status === 'pending') this.#abort();
  }

  /** A job that mirrors will know how; others never get ready. */
  #refuseToComplete(): void {
    throw new VerbError(`The active block job '${this.state.id}' cannot be completed`);
  }

  #rest(): void {
    if (!wantsPause(this.state)) return;
    if (this.state.status === 'running') this.to('paused');
    else if (this.state.status === 'ready') this.to('standby');
  }

  #ioError(operation: Operation, noSpace: boolean): void {
    const { onError, ioStatus } = this.state;
    const action = actionOn(onError, noSpace);
    this.action = action;
    this.events.push({ kind: 'io-error', operation, action });
    if (action !== 'stop') return;
    const failed = noSpace ? 'nospace' : 'failed';
    this.#set({ userPaused: true, ioStatus: ioStatus === 'ok' ? failed : ioStatus });
  }

  #end(error: string | undefined): void {
    if (error !== undefined || this.state.cancelled) {
      this.#set({ error });
      this.#abort();
      return;
    }
    this.to('waiting');
    this.to('pending');
    if (this.state.autoFinalize) this.#set({ finalizing: true });
    else this.events.push({ kind: 'pending' });
  }

  #abort(): void {
    if (this.state.error === undefined) this.#set({ error: 'Operation canceled' });
    this.to('aborting');
  }

  #finalized(error: string | undefined): void {
    this.#set({ finalizing: false });
    if (error === undefined) {
      this.#conclude();
      return;
    }
    this.#set({ error });
    this.#abort();
  }

  #conclude(): void {
    this.events.push({ kind: this.state.cancelled ? 'cancelled' : 'completed' });
    this.to('concluded');
    if (this.state.autoDismiss) this.to('null');
  }
}

function actionOn(onError: OnError, noSpace: boolean): ErrorAction {
  if (onError === 'enospc' || onError === 'auto') return noSpace ? 'stop' : 'report';
  return onError;
}
