// The dialogues recorded from QEMU, as far as they are about jobs below the active layer.

import { describe, expect, test } from 'vitest';
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
const isForMonitor = ({ args }: Exchange) => 'foo' in args || args['on-error'] === 'foo';

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
