// Several clients at once, and such that don't behave: nobody else is kept waiting.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CLI } from '../support/cli.ts';
import {
  Client,
  MONITOR,
  type RunningDaemon,
  startDaemon,
  startProgram,
} from '../support/daemon.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const SECOND = ['--chardev', 'socket,id=more,path=more.sock,server=on,wait=off'].concat([
  ...['--monitor', 'chardev=more'],
]);

interface Started {
  readonly dir: string;
  readonly running: RunningDaemon;
}

async function start(...options: readonly string[]): Promise<Started> {
  return await startAs((args, dir) => startDaemon('ours', args, dir), options);
}

/** By its own name, which has monitors for people. */
async function startOwn(...options: readonly string[]): Promise<Started> {
  const program = [process.execPath, CLI, 'storage-daemon'];
  return await startAs((args, dir) => startProgram([...program, ...args], dir), options);
}

async function startAs(
  daemon: (args: readonly string[], dir: string) => RunningDaemon,
  options: readonly string[],
): Promise<Started> {
  const dir = tempDir();
  const create = ['create', '-q', '-f', 'qcow2'];
  await mustIn(dir, 'qemu-img', ...create, 'base.qcow2', '8M');
  await mustIn(dir, 'qemu-img', ...create, '-b', 'base.qcow2', '-F', 'qcow2', 'mid.qcow2');
  await mustIn(dir, 'qemu-io', '-c', 'write -q -P 0x22 1M 2M', 'mid.qcow2');
  await mustIn(dir, 'qemu-img', ...create, '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2');
  const nodes = [
    ...['base', 'mid', 'top'].map((name) => `file,node-name=f${name[0]},filename=${name}.qcow2`),
    'qcow2,node-name=base,file=fb',
    'qcow2,node-name=mid,file=fm,backing=base',
    'qcow2,node-name=top,file=ft,backing=mid',
  ].flatMap((each) => ['--blockdev', each]);
  const running = daemon([...MONITOR, ...options, ...nodes], dir);
  return { dir, running };
}

const COMMIT = { device: 'top', 'job-id': 'j', 'top-node': 'mid' };

test('events go to all that have negotiated, replies to who has asked', async () => {
  const { dir } = await start(...SECOND);
  const first = await Client.open(join(dir, 'qmp.sock'));
  const second = await Client.open(join(dir, 'more.sock'));
  await first.run('block-commit', COMMIT);
  for (const client of [first, second]) {
    const { data, timestamp } = await client.event('BLOCK_JOB_COMPLETED');
    expect(data).toMatchObject({ device: 'j', len: 8 * 1024 * 1024 });
    expect(timestamp).toEqual({
      seconds: expect.any(Number),
      microseconds: expect.any(Number),
    });
  }
  expect(await second.run('query-jobs')).toEqual([]);
});

test('the next client of a socket comes when the one before it leaves', async () => {
  const { dir } = await start();
  const first = await Client.open(join(dir, 'qmp.sock'));
  const second = await Client.connect(join(dir, 'qmp.sock'));
  second.send('{"execute": "qmp_capabilities", "id": "second"}');
  await first.run('query-jobs');
  first.send('{"execute": ');
  first.socket.destroy();
  expect(await second.textUntil(/"id": "second"/)).toMatch(/^{"QMP": .*\r\n{"return": {}, "id"/);
});

test('a client that reads nothing keeps nobody waiting, and its questions are answered later', async () => {
  const { dir } = await start(...SECOND);
  const deaf = await Client.open(join(dir, 'more.sock'));
  deaf.socket.pause();
  const question = '{"execute": "query-named-block-nodes"}\n';
  let sent = 0;
  // Far more than goes into the buffers on the way.
  for (; sent < 20_000 && deaf.socket.writableLength < 65_536; sent++) deaf.send(question);
  for (; sent < 600; sent++) deaf.send(question);
  const client = await Client.open(join(dir, 'qmp.sock'));
  await client.run('block-commit', COMMIT);
  await client.event('BLOCK_JOB_COMPLETED');
  deaf.socket.resume();
  deaf.send('{"execute": "query-jobs", "id": "last"}\n');
  const text = await deaf.textUntil(/"id": "last"/);
  expect(text.match(/"node-name": "fb"/g)?.length).toBe(sent);
});

test('any bytes: the daemon goes on, and so does the next client', async () => {
  const { dir, running } = await start(...SECOND);
  const client = await Client.open(join(dir, 'qmp.sock'));
  let state = 7;
  const random = (length: number) =>
    Uint8Array.from({ length }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state >>> 24;
    });
  for (let i = 0; i < 20; i++) {
    const wild = await Client.connect(join(dir, 'more.sock'));
    wild.send(random(1 + ((i * 977) % 20_000)));
    wild.send('"'.repeat(i));
    wild.socket.end();
    await client.run('query-jobs');
    wild.socket.destroy();
  }
  const last = await Client.connect(join(dir, 'more.sock'));
  await last.textUntil(/\r\n/);
  last.send(Buffer.concat([Buffer.from([0xff]), Buffer.from('{"execute": "qmp_capabilities"}')]));
  await last.textUntil(/{"return": {}}\r\n/);
  client.send('{"execute": "quit"}\n');
  expect(await running.ended).toMatchObject({ code: 0, stderr: '' });
});

test('people and programs at the same time; what people see is as in QEMU', async () => {
  const { dir, running } = await startOwn(
    ...['--chardev', 'socket,id=people,path=hmp.sock,server=on,wait=off'],
    ...['--monitor', 'chardev=people,mode=readline'],
  );
  const people = await Client.connect(join(dir, 'hmp.sock'));
  await people.textUntil(/\(qemu\) /);
  people.send('nop\x7fe\n');
  // Recorded from qemu-system-x86_64, for this line.
  expect(await people.textUntil(/\(qemu\) /)).toBe(
    'n\x1b[K\x1b[Dno\x1b[K\x1b[D\x1b[Dnop\x1b[K\x1b[D\x1b[D\x1b[Dno\x1b[K\x1b[D\x1b[Dnoe\x1b[K\r\n' +
      "unknown command: 'noe'\r\n(qemu) ",
  );
  // Each key of a long line draws all of it: far more comes back than was sent.
  people.send(`${'x'.repeat(700)}\nhelp quit\n`);
  expect(await people.textUntil(/quit the emulator\r\n\(qemu\) /)).toContain(
    `unknown command: '${'x'.repeat(700)}'`,
  );
  const client = await Client.open(join(dir, 'qmp.sock'));
  await client.run('block-commit', { ...COMMIT, speed: 1 });
  people.send('info block-jobs\n');
  expect(await people.textUntil(/\(qemu\) /)).toMatch(
    /\r\nType commit, device j: Completed \d+ of 8388608 bytes, speed limit 1 bytes\/s\r\n/,
  );
  people.send('block_job_cancel j\n');
  await client.event('BLOCK_JOB_CANCELLED');
  people.send('quit\n');
  // No prompt: nobody would read what is typed there.
  expect((await people.rest()).endsWith('quit\x1b[K\r\n')).toBe(true);
  expect(await running.ended).toMatchObject({ code: 0, stderr: '' });
});
