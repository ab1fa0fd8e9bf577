// The jobs of the daemon by their ids, and the commands about them. Two families of commands call them
// by two names: `block-job-*` by a device, `job-*` by an id; their errors differ.

import type { NewJob } from '../commit/job.ts';
import type { Host } from '../io/host.ts';
import { DaemonError } from './daemon-error.ts';
import { Job } from './job.ts';
import {
  type BlockJobInfo,
  blockJobInfo,
  type EventSink,
  type JobInfo,
  jobInfo,
} from './job-events.ts';

export class Jobs {
  readonly #clock: Pick<Host, 'now' | 'sleep'>;
  readonly #emit: EventSink;
  readonly #warn: ((message: string) => void) | undefined;
  readonly #jobs = new Map<string, Job>();

  constructor(
    clock: Pick<Host, 'now' | 'sleep'>,
    emit: EventSink,
    warn?: (message: string) => void,
  ) {
    this.#clock = clock;
    this.#emit = emit;
    this.#warn = warn;
  }

  /** The latest first. */
  get all(): readonly Job[] {
    return [...this.#jobs.values()].reverse();
  }

  /** Throws where no job can have that id now. */
  checkId(id: string): void {
    if (!/^[a-z][a-z0-9._-]*$/i.test(id)) throw new DaemonError(`Invalid job ID '${id}'`);
    if (this.#jobs.has(id)) throw new DaemonError(`Job ID '${id}' already in use`);
  }

  create(job: NewJob): Job {
    this.checkId(job.id);
    const created = new Job(job, {
      clock: this.#clock,
      emit: this.#emit,
      warn: this.#warn,
      onGone: ({ id }) => this.#jobs.delete(id),
    });
    this.#jobs.set(created.id, created);
    return created;
  }

  /** For `job-*`. */
  byId(id: string): Job {
    const job = this.#jobs.get(id);
    if (job === undefined) throw new DaemonError('Job not found');
    return job;
  }

  /** For `block-job-*`. */
  byDevice(device: string): Job {
    const job = this.#jobs.get(device);
    if (job !== undefined) return job;
    throw new DaemonError(`Block job '${device}' not found`, 'DeviceNotActive');
  }

  /** `query-jobs`. */
  list(): readonly JobInfo[] {
    return this.all.map(({ state, type }) => jobInfo(state, type));
  }

  /** `query-block-jobs`. */
  listBlockJobs(): readonly BlockJobInfo[] {
    return this.all.map(({ state, type, busy }) => blockJobInfo(state, type, busy));
  }

  /** `block-job-cancel`: a job at rest is left alone unless it is forced. */
  async cancelBlockJob(device: string, force = false): Promise<void> {
    const job = this.byDevice(device);
    if (job.state.userPaused && !force) {
      throw new DaemonError(`The block job for device '${device}' is currently paused`);
    }
    await job.cancel();
  }

  /** All rest until the function is called. */
  drain(): () => void {
    const resume = this.all.map((job) => job.drain());
    return () => {
      for (const each of resume) each();
    };
  }

  /** At the end of the daemon: all are cancelled, and gone. */
  async endAll(): Promise<void> {
    for (const job of this.all) await job.end();
  }
}
