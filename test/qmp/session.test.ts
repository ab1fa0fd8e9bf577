// A client of QMP, without a socket between: its turns, its events, its end.

import { expect, test } from 'vitest';
import { command } from '../../src/qmp/command.ts';
import { object } from '../../src/qmp/schema.ts';
import { QmpSession } from '../../src/qmp/session.ts';

function openSession() {
  const sent: string[] = [];
  const flow: string[] = [];
  let finish: () => void = () => undefined;
  let room: Promise<void> = Promise.resolve();
  const session = new QmpSession(
    {
      send: (text) => sent.push(text),
      pause: () => flow.push('pause'),
      resume: () => flow.push('resume'),
      hasRoom: () => room,
    },
    {
      version: { qemu: { major: 7, minor: 2, micro: 0 }, package: 'test' },
      commands: new Map([
        [
          'slow',
          command(
            object({}),
            () =>
              new Promise<undefined>((resolve) => {
                finish = () => resolve(undefined);
              }),
          ),
        ],
        ['broken', command(object({}), () => ({ a: 1, b: undefined }))],
      ]),
      inTurn: (run) => run(),
    },
  );
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return {
    ...{ session, sent, flow },
    async say(...commands: readonly string[]) {
      const text = commands.map((execute) => JSON.stringify({ execute })).join('');
      session.feed(new TextEncoder().encode(text));
      await settle();
    },
    async finish() {
      finish();
      await settle();
    },
    fill(until: Promise<void>) {
      room = until;
    },
  };
}

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": "test"}, ' +
  '"capabilities": ["oob"]}}\r\n';
const EVENT = { event: 'X', data: { a: 1 }, timestamp: { seconds: 1, microseconds: 2 } };

test('events come after the negotiation alone', async () => {
  const { session, sent, say } = openSession();
  session.tell(EVENT);
  await say('qmp_capabilities');
  session.tell(EVENT);
  expect(sent).toEqual([
    GREETING,
    '{"return": {}}\r\n',
    '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "X", "data": {"a": 1}}\r\n',
  ]);
});

test('commands are run one after the other; who sends too many has to wait', async () => {
  const { sent, flow, say, finish } = openSession();
  await say('qmp_capabilities');
  await say(...Array.from({ length: 10 }, () => 'slow'));
  expect(flow).toEqual(['pause']);
  for (let done = 0; done < 10; done++) {
    expect(sent.length).toBe(2 + done);
    await finish();
  }
  expect(flow).toEqual(['pause', 'resume']);
});

test('nothing is answered while the client takes nothing', async () => {
  const { sent, say, fill } = openSession();
  await say('qmp_capabilities');
  let take: () => void = () => undefined;
  fill(
    new Promise((resolve) => {
      take = resolve;
    }),
  );
  await say('broken');
  expect(sent.length).toBe(2);
  take();
  await new Promise((resolve) => setImmediate(resolve));
  expect(sent.at(-1)).toBe('{"return": {"a": 1}}\r\n');
});

test('who has gone is sent nothing more', async () => {
  const { session, sent, say, finish } = openSession();
  await say('qmp_capabilities');
  await say('slow', 'broken');
  session.close();
  session.tell(EVENT);
  await finish();
  expect(sent.length).toBe(2);
});
