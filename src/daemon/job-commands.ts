// The commands of QMP about commits and other jobs.

import { acting, type Command, command } from '../qmp/command.ts';
import { bool, integer, object, oneOf, optional, text } from '../qmp/schema.ts';
import { blockCommit, type CommitContext } from './block-commit.ts';
import type { Job } from './job.ts';
import { redhatBlockCommit } from './redhat-commit.ts';

const commitArguments = object({
  'job-id': optional(text),
  device: text,
  'base-node': optional(text),
  base: optional(text),
  'top-node': optional(text),
  top: optional(text),
  'backing-file': optional(text),
  'backing-mask-protocol': optional(bool),
  speed: optional(integer),
  'on-error': optional(oneOf('report', 'ignore', 'enospc', 'stop', 'auto')),
  'filter-node-name': optional(text),
  'auto-finalize': optional(bool),
  'auto-dismiss': optional(bool),
});

const redhatArguments = object({
  device: text,
  base: optional(text),
  top: optional(text),
  speed: optional(integer),
});

type Action = (job: Job) => Promise<void> | void;

const ACTIONS = {
  pause: (job) => job.pause(),
  resume: (job) => job.resume(),
  complete: (job) => job.complete(),
  finalize: (job) => job.finalize(),
  dismiss: (job) => job.dismiss(),
} as const satisfies Readonly<Record<string, Action>>;

export function jobCommands(context: CommitContext): Readonly<Record<string, Command>> {
  const { jobs } = context;
  const nothing = object({});
  return {
    'block-commit': acting(commitArguments, (given) => blockCommit(context, given)),
    '__com.redhat_block-commit': acting(redhatArguments, (given) =>
      redhatBlockCommit(context, given),
    ),
    'query-block-jobs': command(nothing, () => jobs.listBlockJobs()),
    'query-jobs': command(nothing, () => jobs.list()),
    'block-job-set-speed': acting(object({ device: text, speed: integer }), (given) =>
      jobs.byDevice(given.device).setSpeed(given.speed),
    ),
    'block-job-cancel': acting(object({ device: text, force: optional(bool) }), (given) =>
      jobs.cancelBlockJob(given.device, given.force),
    ),
    'job-cancel': acting(object({ id: text }), ({ id }) => jobs.byId(id).cancel()),
    ...Object.fromEntries(
      Object.entries(ACTIONS).flatMap(([verb, act]) => both(context, verb, act)),
    ),
  };
}

/** The two families: by a device (where the job may end by itself), and by an id. */
function both({ jobs }: CommitContext, verb: string, act: Action): readonly [string, Command][] {
  const byId = verb === 'finalize' || verb === 'dismiss';
  const ofDevice = byId
    ? acting(object({ id: text }), ({ id }) => act(jobs.byDevice(id)))
    : acting(object({ device: text }), ({ device }) => act(jobs.byDevice(device)));
  return [
    [`block-job-${verb}`, ofDevice],
    [`job-${verb}`, acting(object({ id: text }), ({ id }) => act(jobs.byId(id)))],
  ];
}
