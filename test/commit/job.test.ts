// The state machine of a job: whatever is done to it in whatever order, it goes only where QEMU's would
// go, takes only what QEMU's would take, and tells it in the same order.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  createJob,
  FOLLOWING,
  type JobEvent,
  type JobInput,
  type JobState,
  type JobStatus,
  type JobVerb,
  type NewJob,
  type Stepped,
  stepJob,
  TAKEN_IN,
  VerbError,
} from '../../src/commit/job.ts';

const told = (events: readonly JobEvent[]) =>
  events.map((event) => {
    if (event.kind === 'status') return event.status;
    if (event.kind === 'io-error') return `${event.operation} ${event.action}`;
    return event.kind.toUpperCase();
  });

function after(job: Omit<NewJob, 'id'>, ...inputs: readonly JobInput[]) {
  let { state, events } = createJob({ id: 'j', ...job });
  for (const input of inputs) {
    const stepped = stepJob(state, input);
    state = stepped.state;
    events = [...events, ...stepped.events];
  }
  return { state, told: told(events) };
}

const START: JobInput = { at: 'start', length: 100 };
const PAUSED: readonly JobInput[] = [START, { verb: 'pause' }, { at: 'pause-point' }];

describe('what is told', () => {
  test.each<[string, Omit<NewJob, 'id'>, readonly JobInput[], readonly string[]]>([
    [
      'of one that comes through',
      {},
      [START, { at: 'progress', bytes: 100 }, { at: 'end' }, { at: 'finalized' }],
      ['created', 'running', 'waiting', 'pending', 'COMPLETED', 'concluded', 'null'],
    ],
    [
      'of one that waits to be finalized, and to be dismissed',
      { autoFinalize: false, autoDismiss: false },
      [START, { at: 'end' }, { verb: 'finalize' }, { at: 'finalized' }, { verb: 'dismiss' }],
      ['created', 'running', 'waiting', 'pending', 'PENDING', 'COMPLETED', 'concluded', 'null'],
    ],
    [
      'of one that is cancelled at rest',
      {},
      [...PAUSED, { verb: 'cancel' }, { at: 'end' }, { at: 'undone' }],
      ['created', 'running', 'paused', 'running', 'aborting', 'CANCELLED', 'concluded', 'null'],
    ],
    [
      'of one that is cancelled when all is done',
      { autoFinalize: false },
      [START, { at: 'end' }, { verb: 'cancel' }, { at: 'undone' }],
      [
        ...['created', 'running', 'waiting', 'pending', 'PENDING'],
        ...['aborting', 'CANCELLED', 'concluded', 'null'],
      ],
    ],
    [
      'of one that fails',
      {},
      [
        START,
        { at: 'io-error', operation: 'write', noSpace: true },
        { at: 'end', error: 'No space left on device' },
        { at: 'undone' },
      ],
      ['created', 'running', 'write report', 'aborting', 'COMPLETED', 'concluded', 'null'],
    ],
    [
      'of one whose last step fails',
      {},
      [START, { at: 'end' }, { at: 'finalized', error: 'Input/output error' }, { at: 'undone' }],
      ['created', 'running', 'waiting', 'pending', 'aborting', 'COMPLETED', 'concluded', 'null'],
    ],
    [
      'of one that stops on an error, and goes on',
      { onError: 'enospc' },
      [
        START,
        { at: 'io-error', operation: 'write', noSpace: true },
        { at: 'pause-point' },
        { verb: 'resume' },
      ],
      ['created', 'running', 'write stop', 'paused', 'running'],
    ],
    [
      'of one that gets ready, and rests there',
      {},
      [START, { at: 'in-sync' }, { verb: 'pause' }, { at: 'pause-point' }, { verb: 'resume' }],
      ['created', 'running', 'ready', 'READY', 'standby', 'ready'],
    ],
    ['of one that can not start', {}, [{ at: 'refused' }], ['created', 'null']],
  ])('%s', (_, job, inputs, expected) => {
    expect(after(job, ...inputs).told).toEqual(expected);
  });
});

test.each([
  ['report', true, 'report', 'ok'],
  ['report', false, 'report', 'ok'],
  ['stop', true, 'stop', 'nospace'],
  ['stop', false, 'stop', 'failed'],
  ['enospc', true, 'stop', 'nospace'],
  ['enospc', false, 'report', 'ok'],
  ['auto', true, 'stop', 'nospace'],
  ['auto', false, 'report', 'ok'],
  ['ignore', true, 'ignore', 'ok'],
  ['ignore', false, 'ignore', 'ok'],
] as const)('on-error %s, out of space %s: %s', (onError, noSpace, action, ioStatus) => {
  const { state } = after({ onError }, START);
  const stepped = stepJob(state, { at: 'io-error', operation: 'read', noSpace });
  expect(stepped.action).toBe(action);
  expect(stepped.state).toMatchObject({ ioStatus, userPaused: action === 'stop' });
});

describe('refused', () => {
  test.each<[string, readonly JobInput[], JobInput, string]>([
    ['a second pause', PAUSED, { verb: 'pause' }, 'Job is already paused'],
    ['resume without pause', [START], { verb: 'resume' }, "Can't resume a job that was not paused"],
    [
      'completing what does not get ready',
      [START],
      { verb: 'complete' },
      "Job 'j' in state 'running' cannot accept command verb 'complete'",
    ],
    [
      'a negative speed',
      [START],
      { verb: 'set-speed', speed: -1 },
      "Parameter 'speed' expects a non-negative value",
    ],
    [
      'cancelling during the last step',
      [START, { at: 'end' }],
      { verb: 'cancel' },
      "Job 'j' in state 'pending' cannot accept command verb 'cancel'",
    ],
  ])('%s', (_, before, input, words) => {
    const { state } = after({}, ...before);
    expect(() => stepJob(state, input)).toThrow(new VerbError(words));
  });
});

const VERBS = Object.keys(TAKEN_IN) as JobVerb[];
const verbInput = (verb: JobVerb): JobInput =>
  verb === 'set-speed' ? { verb, speed: 5 } : { verb };

/** What who runs a job can come to say of it in that state. */
function reportsIn({ status, finalizing, cancelled }: JobState): readonly JobInput[] {
  const ends: JobInput[] = [{ at: 'end' }, { at: 'end', error: 'Input/output error' }];
  if (status === 'created') return [START, { at: 'refused' }];
  if (status === 'running' || status === 'ready') {
    const works: JobInput[] = [
      { at: 'pause-point' },
      { at: 'progress', bytes: 1 },
      { at: 'io-error', operation: 'write', noSpace: true },
    ];
    const sync: JobInput[] = status === 'running' && !cancelled ? [{ at: 'in-sync' }] : [];
    return [...works, ...sync, ...ends];
  }
  if (finalizing) return [{ at: 'finalized' }, { at: 'finalized', error: 'x' }];
  return status === 'aborting' ? [{ at: 'undone' }] : [];
}

const newJob = fc.record({
  id: fc.constant('j'),
  autoFinalize: fc.boolean(),
  autoDismiss: fc.boolean(),
  onError: fc.constantFrom('report', 'ignore', 'enospc', 'stop', 'auto'),
});

test('any orders at any time: no state but those that may follow, and one end', () => {
  fc.assert(
    fc.property(newJob, fc.array(fc.nat(1000), { maxLength: 40 }), (job, choices) => {
      let { state, events } = createJob(job as NewJob);
      let status: JobStatus = 'undefined';
      let ends = 0;
      const follow = (stepped: Pick<Stepped, 'events'>) => {
        for (const event of stepped.events) {
          if (event.kind === 'completed' || event.kind === 'cancelled') ends++;
          if (event.kind !== 'status') continue;
          expect(FOLLOWING[status]).toContain(event.status);
          status = event.status;
        }
      };
      follow({ events });
      for (const choice of choices) {
        const inputs = [...VERBS.map(verbInput), ...reportsIn(state), ...reportsIn(state)];
        const input = inputs[choice % inputs.length] ?? START;
        const before = state;
        try {
          const stepped = stepJob(state, input);
          ({ state, events } = stepped);
          follow(stepped);
          if ('verb' in input) expect(TAKEN_IN[input.verb]).toContain(before.status);
        } catch (error) {
          if (!(error instanceof VerbError)) throw error;
          expect(state).toBe(before);
        }
        expect(state.status).toBe(status);
      }
      expect(ends).toBe(['concluded', 'null'].includes(state.status) && ends > 0 ? 1 : 0);
      if (state.status === 'concluded') expect(ends).toBe(1);
    }),
    { seed: 9, numRuns: 500 },
  );
});
