// The dialogues recorded from QEMU, led with our daemon over its socket: the same replies, the same
// events, in the same order. What is about jobs that commit the active layer is left out.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CLI } from '../support/cli.ts';
import { Client, type Message, MONITOR, startDaemon, startProgram } from '../support/daemon.ts';
import { type Exchange, exchangesOf, withoutTiming } from '../support/job-dialogue.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

interface Layer {
  readonly name: string;
  readonly write: string;
}

async function makeChain(dir: string, size: string, layers: readonly Layer[]): Promise<void> {
  for (const [i, { name, write }] of layers.entries()) {
    const below = layers[i - 1];
    const backing = below === undefined ? [] : ['-b', `${below.name}.qcow2`, '-F', 'qcow2'];
    const file = `${name}.qcow2`;
    await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...backing, file, size);
    await mustIn(dir, 'qemu-io', '-c', `write -q ${write}`, file);
  }
}

const NODES = [
  ...['base', 'mid', 'top'].map((name) => `file,node-name=f${name[0]},filename=${name}.qcow2`),
  'qcow2,node-name=base,file=fb',
  'qcow2,node-name=mid,file=fm,backing=base',
  'qcow2,node-name=top,file=ft,backing=mid',
];

/** By node names, as most dialogues were recorded; `inject`: an error below base. */
async function byNodes(inject?: number): Promise<Client> {
  const dir = tempDir();
  await makeChain(dir, '8M', [
    { name: 'base', write: '-P 0x11 0 1M' },
    { name: 'mid', write: '-P 0x22 1M 2M' },
    { name: 'top', write: '-P 0x33 2M 3M' },
  ]);
  const rule = `inject-error.0.event=write_aio,inject-error.0.errno=${inject}`;
  const debug = `blkdebug,node-name=eb,image=fb,${rule}`;
  const nodes = NODES.flatMap((node) => {
    if (inject === undefined || !node.startsWith('qcow2,node-name=base')) return [node];
    return [debug, node.replace('file=fb', 'file=eb')];
  });
  startDaemon('ours', [...MONITOR, ...nodes.flatMap((each) => ['--blockdev', each])], dir);
  return await Client.open(join(dir, 'qmp.sock'));
}

/** What is told of this machine, and of a guest's devices, which there are none of. */
function comparable(value: unknown): unknown {
  if (typeof value === 'string') {
    return value
      .replace(/ {4}Attached to: .*\r\n/g, '')
      .replace(/^disk size: .*$/gm, '')
      .replace(/Completed \d+ of/, 'Completed of')
      .replace(/#block\d+/g, '#block');
  }
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== 'object' || value === null) return value;
  const left = Object.entries(value).filter(
    ([key]) => !['timestamp', 'qdev', 'actual-size'].includes(key),
  );
  return Object.fromEntries(left.map(([key, each]) => [key, comparable(each)]));
}

const shown = (answers: readonly unknown[]) => comparable(withoutTiming(answers));

/** Whoever recorded took his time: the job waited for its speed when it was told to rest, or to end. */
async function atRest(client: Client): Promise<void> {
  for (;;) {
    const jobs = (await client.run('query-block-jobs')) as readonly Message[];
    if (jobs.every(({ busy }) => busy === false)) return;
  }
}

async function lead(client: Client, exchanges: readonly Exchange[]): Promise<void> {
  expect(exchanges.length).toBeGreaterThan(0);
  for (const { command, args, answers } of exchanges) {
    if (/^block-job-(cancel|pause)$/.test(command)) await atRest(client);
    client.send(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    const got: Message[] = [];
    while (got.length < answers.length) {
      got.push(JSON.parse(await client.textUntil(/\r\n/)) as Message);
    }
    expect({ command, args, got: shown(got) }).toEqual({ command, args, got: shown(answers) });
  }
  client.send('{"execute": "query-version", "id": "no more"}\n');
  expect(await client.textUntil(/\r\n/)).toContain('"id": "no more"');
}

test.each([
  ['qmp-validation-and-jobs.txt', undefined],
  ['qmp-validation-and-jobs.txt', 'live intermediate'],
  ['qmp-finalize-and-cancel.txt', 'manual finalize/dismiss intermediate'],
  ['qmp-finalize-and-cancel.txt', 'cancel intermediate'],
])('%s: %s', async (file, part) => {
  const exchanges = exchangesOf(file, part).filter(({ command }) => command !== 'quit');
  await lead(await byNodes(), exchanges);
});

test.each(['report', 'stop', 'enospc'].flatMap((each) => [`${each} ENOSPC`, `${each} EIO`]))(
  'qmp-on-error.txt: %s',
  async (part) => {
    const client = await byNodes(part.endsWith('EIO') ? 5 : 28);
    await lead(client, exchangesOf('qmp-on-error.txt', `--- ${part}`));
  },
);

test('qmp-device-by-filename.txt', async () => {
  const dir = tempDir();
  await makeChain(
    dir,
    '64M',
    ['base', 'sn1', 'sn2', 'sn3', 'sn4'].map((name, i) => ({
      name,
      write: i === 0 ? '-P 1 0 32M' : `-P ${i + 1} ${2 * i}M 8M`,
    })),
  );
  const device = 'file=sn4.qcow2,format=qcow2,id=drive-virtio-disk0';
  const options = ['storage-daemon', ...MONITOR, '--drive', device];
  startProgram([process.execPath, CLI, ...options], dir);
  const client = await Client.open(join(dir, 'qmp.sock'));
  const all = exchangesOf('qmp-device-by-filename.txt');
  // What was sent after a line that was no JSON got its reply one command later.
  const end = all.findIndex(({ command }) => command === 'nosuch');
  const isOurs = ({ command }: Exchange) => command !== 'qmp_capabilities';
  await lead(client, all.slice(1, end + 1).filter(isOurs));
  const last = all.slice(-2);
  const [{ command, args, answers }] = last.slice(0, 1) as [Exchange];
  expect(command).toBe('query-block');
  await lead(client, [
    {
      command: 'block-commit',
      args: { device: 'drive-virtio-disk0', base: 'sn1.qcow2', top: 'sn3.qcow2' },
      answers: all.at(-3)?.answers.slice(1) ?? [],
    },
    { command, args, answers },
  ]);
});
