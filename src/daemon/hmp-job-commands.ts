// The commands of the human monitor about commits and other jobs.

import type { Argument, Given, HmpCommand } from '../hmp/command.ts';
import type { CommitContext } from './block-commit.ts';
import { commitDevice } from './commit-device.ts';
import { asDaemonError } from './daemon-error.ts';
import type { Jobs } from './jobs.ts';
import { redhatBlockCommit } from './redhat-commit.ts';

const DEVICE: Argument = { name: 'device', kind: 'device' };
const textOf = (value: Given[string]) => (typeof value === 'string' ? value : undefined);

export function hmpJobCommands(context: CommitContext): readonly HmpCommand[] {
  return [
    commitCommand(context),
    redhatCommand(context),
    cancelCommand(context),
    speedCommand(context),
    ...orders(context),
  ];
}

function commitCommand(context: CommitContext): HmpCommand {
  return {
    name: 'commit',
    arguments: [DEVICE],
    shown: 'device|all',
    about: 'commit changes to the disk images (if -snapshot is used) or backing files',
    run: async ({ device }) => {
      try {
        await commitDevice(context, String(device));
        return '';
      } catch (error) {
        // Told without a prefix.
        return `${asDaemonError(error).message}\n`;
      }
    },
  };
}

function redhatCommand(context: CommitContext): HmpCommand {
  return {
    name: '__com.redhat_block-commit',
    arguments: [
      DEVICE,
      { name: 'base', kind: 'text', optional: true },
      { name: 'top', kind: 'text', optional: true },
      { name: 'speed', kind: 'size', optional: true },
    ],
    shown: 'device [base [top [speed]]]',
    about: 'live commit of layers below the active one into a base image',
    run: async (given) => {
      const [base, top] = [textOf(given['base']), textOf(given['top'])];
      const { speed } = given;
      await redhatBlockCommit(context, {
        device: String(given['device']),
        ...(base !== undefined && { base }),
        ...(top !== undefined && { top }),
        ...(typeof speed === 'number' && { speed }),
      });
      return '';
    },
  };
}

function cancelCommand({ jobs }: CommitContext): HmpCommand {
  return {
    name: 'block_job_cancel',
    arguments: [{ name: 'force', kind: 'flag', letter: 'f' }, DEVICE],
    shown: '[-f] device',
    about:
      'stop an active background block operation (use -f\n' +
      '\t\t\t if you want to abort the operation immediately\n' +
      '\t\t\t instead of keep running until data is in sync)',
    run: ({ device, force }) => jobs.cancelBlockJob(String(device), force === true).then(() => ''),
  };
}

function speedCommand({ jobs }: CommitContext): HmpCommand {
  return {
    name: 'block_job_set_speed',
    arguments: [DEVICE, { name: 'speed', kind: 'size' }],
    shown: 'device speed',
    about: 'set maximum speed for a background block operation',
    run: ({ device, speed }) => {
      jobs.byDevice(String(device)).setSpeed(Number(speed));
      return '';
    },
  };
}

function orders({ jobs }: CommitContext): readonly HmpCommand[] {
  const order = (verb: 'pause' | 'resume' | 'complete', about: string): HmpCommand => ({
    name: `block_job_${verb}`,
    arguments: [DEVICE],
    shown: 'device',
    about,
    run: ({ device }) => {
      jobs.byDevice(String(device))[verb]();
      return '';
    },
  });
  return [
    order('pause', 'pause an active background block operation'),
    order('resume', 'resume a paused background block operation'),
    order('complete', 'stop an active background block operation'),
  ];
}

export function blockJobsCommand({ jobs }: { readonly jobs: Jobs }): HmpCommand {
  return {
    name: 'block-jobs',
    arguments: [],
    shown: '',
    about: 'show progress of ongoing block device operations',
    run: () => {
      const lines = jobs
        .listBlockJobs()
        .map(
          ({ type, device, offset, len, speed }) =>
            `Type ${type}, device ${device}: Completed ${offset} of ${len} bytes, ` +
            `speed limit ${speed} bytes/s\n`,
        );
      return lines.length === 0 ? 'No active jobs\n' : lines.join('');
    },
  };
}
