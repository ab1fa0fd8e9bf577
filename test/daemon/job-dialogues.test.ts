// The dialogues recorded from QEMU, as far as they are about jobs below the active layer.

import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/units.ts';
import { type Exchange, exchangesOf, lead, withoutTiming } from '../support/job-dialogue.ts';
import { LiveChain, type LiveLayer, RECORDED } from '../support/live-chain.ts';

async function replay(live: LiveChain, exchanges: readonly Exchange[]): Promise<void> {
  for (const exchange of exchanges) {
    const answers = await lead(live, exchange);
    const about = { command: exchange.command, args: exchange.args };
    expect({ ...about, answers: withoutTiming(answers) }).toEqual({
      ...about,
      answers: withoutTiming(exchange.answers),
    });
  }
}

async function replayWhole(exchanges: readonly Exchange[]): Promise<void> {
  const live = await LiveChain.open();
  await replay(live, exchanges);
  await live.close();
}

/** Checked by the monitor, before the command is called. */
const isForMonitor = ({ command, args }: Exchange) =>
  'foo' in args ||
  'bogus' in args ||
  args['on-error'] === 'foo' ||
  (command === 'block-commit' && !('device' in args));

test('what is refused, and with which words', async () => {
  const exchanges = exchangesOf('qmp-validation-and-jobs.txt').filter(
    (each) => !isForMonitor(each),
  );
  expect(exchanges.length).toBeGreaterThan(15);
  await replayWhole(exchanges);
});

test.each([
  ['qmp-validation-and-jobs.txt', 'live intermediate'],
  ['qmp-finalize-and-cancel.txt', 'manual finalize/dismiss intermediate'],
  ['qmp-finalize-and-cancel.txt', 'cancel intermediate'],
])('%s: %s', async (file, part) => {
  await replayWhole(exchangesOf(file, part));
});

/** What is between is for the monitor alone. */
const isAboutJobs = ({ command }: Exchange) =>
  /^(block-commit|query-(block-)?jobs|block-job)/.test(command);

const SNAPSHOTS: readonly LiveLayer[] = ['base', 'sn1', 'sn2', 'sn3', 'sn4'].map((name, i) => ({
  name,
  size: 64 * MIB,
  writes: i === 0 ? [[0, 32 * MIB, 1]] : [[2 * i * MIB, 8 * MIB, i + 1]],
}));

test('by file names, under a device', async () => {
  const all = exchangesOf('qmp-device-by-filename.txt').filter(isAboutJobs);
  // From there on one reply comes too late, as something before was no JSON.
  const end = all.findIndex(({ answers }) => JSON.stringify(answers).includes('CommandNotFound'));
  const exchanges = all.slice(0, end).filter((each) => !isForMonitor(each));
  expect(exchanges.length).toBeGreaterThan(10);
  const live = await LiveChain.openDevice('drive-virtio-disk0', SNAPSHOTS);
  await replay(live, exchanges);
  await live.close();
});

test('the older dialogue', async () => {
  const device = 'drive-virtio-disk0';
  const live = await LiveChain.openDevice(device, SNAPSHOTS);
  const say = (command: string, args: Exchange['args'] = {}) =>
    lead(live, { command, args, answers: [] });
  const commit = (args: Exchange['args']) => say('__com.redhat_block-commit', { device, ...args });
  const refused = (words: string, name: string) => ({ error: { class: name, desc: words } });
  expect(await commit({ top: '/sn3.qcow2', speed: -1 })).toContainEqual(
    refused("Invalid parameter 'speed'", 'InvalidParameter'),
  );
  expect(await commit({ base: '/sn1.qcow2' })).toContainEqual(
    refused("Parameter 'top' is missing", 'GenericError'),
  );
  expect(await commit({ base: '/sn1.qcow2', top: '/nope' })).toContainEqual(
    refused('Top image file /nope not found', 'GenericError'),
  );
  expect(await commit({ top: '/sn4.qcow2' })).toContainEqual(
    refused(
      'Top image file /sn4.qcow2 is the active layer, which can not be committed',
      'GenericError',
    ),
  );
  expect(await commit({ base: '/sn3.qcow2', top: '/sn3.qcow2' })).toContainEqual(
    refused("Can't find '/sn3.qcow2' in the backing chain", 'GenericError'),
  );
  expect(await say('__com.redhat_block-commit', { device: 'x', top: 'y' })).toContainEqual(
    refused("Device 'x' not found", 'DeviceNotFound'),
  );
  const started = await commit({ base: '/sn1.qcow2', top: '/sn3.qcow2', speed: 1_000_000 });
  expect(started).toContainEqual({ return: {} });
  expect(await commit({ base: '/sn1.qcow2', top: '/sn3.qcow2' })).toContainEqual(
    refused(`Device '${device}' is in use`, 'DeviceInUse'),
  );
  const [jobs] = await say('query-block-jobs');
  expect(jobs).toMatchObject({
    return: [{ device, len: 64 * MIB, speed: 1_000_000, type: 'commit' }],
  });
  expect(await say('block-job-set-speed', { device, speed: 1_024_000 })).toEqual([{ return: {} }]);
  const answers = await say('block-job-cancel', { device });
  expect(answers).toContainEqual({
    event: 'BLOCK_JOB_CANCELLED',
    data: expect.objectContaining({ device, len: 64 * MIB, speed: 1_024_000, type: 'commit' }),
  });
  await live.close();
});

describe('errors that base has', () => {
  test.each(['report', 'stop', 'enospc'].flatMap((each) => [`${each} ENOSPC`, `${each} EIO`]))(
    '%s',
    async (part) => {
      const errno = part.endsWith('EIO') ? 5 : 28;
      const inject = [{ event: 'write_aio', errno }];
      const layers = RECORDED.map((layer) =>
        layer.name === 'base' ? { ...layer, inject } : layer,
      );
      const live = await LiveChain.open(layers as LiveLayer[]);
      await replay(live, exchangesOf('qmp-on-error.txt', `--- ${part}`));
      // What could not be written can't be written now, either.
      await expect(live.close()).rejects.toThrow();
    },
  );
});
