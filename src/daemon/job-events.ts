// What clients are told of a job: its events in the words of QMP, and its description when they ask.

import { isReady, type JobEvent, type JobState } from '../commit/job.ts';

/** Hears each event of the daemon: its name in QMP, and its data. */
export type EventSink = (name: string, data: Readonly<Record<string, unknown>>) => void;

interface NamedEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** `state`: after the step that the event is of. */
export function eventOf(event: JobEvent, state: JobState, type: string): NamedEvent {
  const { id, error } = state;
  switch (event.kind) {
    case 'status':
      return { name: 'JOB_STATUS_CHANGE', data: { status: event.status, id } };
    case 'pending':
      return { name: 'BLOCK_JOB_PENDING', data: { type, id } };
    case 'io-error': {
      const { operation, action } = event;
      return { name: 'BLOCK_JOB_ERROR', data: { device: id, operation, action } };
    }
    case 'ready':
      return { name: 'BLOCK_JOB_READY', data: progressOf(state, type) };
    case 'cancelled':
      return { name: 'BLOCK_JOB_CANCELLED', data: progressOf(state, type) };
    case 'completed': {
      const failed = error !== undefined && { error };
      return { name: 'BLOCK_JOB_COMPLETED', data: { ...progressOf(state, type), ...failed } };
    }
  }
}

function progressOf({ id, length, offset, speed }: JobState, type: string) {
  return { device: id, len: length, offset, speed, type };
}

/** An answer to `query-jobs`. */
export interface JobInfo {
  readonly id: string;
  readonly type: string;
  readonly status: string;
  readonly 'current-progress': number;
  readonly 'total-progress': number;
  readonly error?: string;
}

export function jobInfo(state: JobState, type: string): JobInfo {
  const { id, status, offset, length, error } = state;
  return {
    ...{ id, type, status, 'current-progress': offset, 'total-progress': length },
    ...(error !== undefined && { error }),
  };
}

/** An answer to `query-block-jobs`. */
export interface BlockJobInfo {
  readonly type: string;
  readonly device: string;
  readonly len: number;
  readonly offset: number;
  readonly busy: boolean;
  readonly paused: boolean;
  readonly speed: number;
  readonly 'io-status': string;
  readonly ready: boolean;
  readonly status: string;
  readonly 'auto-finalize': boolean;
  readonly 'auto-dismiss': boolean;
  readonly error?: string;
}

export function blockJobInfo(state: JobState, type: string, busy: boolean): BlockJobInfo {
  const { error } = state;
  return {
    ...progressOf(state, type),
    busy,
    paused: state.userPaused,
    'io-status': state.ioStatus,
    ready: isReady(state),
    status: state.status,
    'auto-finalize': state.autoFinalize,
    'auto-dismiss': state.autoDismiss,
    ...(error !== undefined && { error }),
  };
}
