// A disk that is served, written to, and merged meanwhile: in processes of their own, judged by QEMU's
// programs. And how it ends: by a command, by a signal.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeCertificates } from '../support/certificates.ts';
import { CLI } from '../support/cli.ts';
import { Client, MONITOR, startDaemon, startProgram } from '../support/daemon.ts';
import { mustIn, run } from '../support/qemu.ts';
import {
  DEVICE,
  expectedView,
  guest,
  makeChain,
  nameOf,
  readCommands,
  SIZE,
  serveChain,
  view,
  writeCommands,
} from '../support/served-chain.ts';
import { tempDir } from '../support/temp.ts';

test('the older dialogue merges layers while a guest writes', async () => {
  const dir = await makeChain();
  const { running, client } = await serveChain(dir);
  const writing = guest(dir, [...writeCommands, 'flush']);
  const args = { device: DEVICE, base: join(dir, 'sn1.qcow2'), top: join(dir, 'sn3.qcow2') };
  await client.run('__com.redhat_block-commit', { ...args, speed: 8_000_000 });
  const [job] = (await client.run('query-block-jobs')) as Record<string, unknown>[];
  expect(job).toMatchObject({ device: DEVICE, len: SIZE, speed: 8_000_000, type: 'commit' });
  const line = await client.run('human-monitor-command', { 'command-line': 'info block-jobs' });
  expect(line).toMatch(/^Type commit, device drive-virtio-disk0: Completed \d+ of 16777216 bytes/);
  await client.run('block_job_set_speed', { device: DEVICE, speed: 0 });
  const done = await client.event('BLOCK_JOB_COMPLETED');
  expect(done['data']).toMatchObject({ device: DEVICE, len: SIZE, offset: SIZE, type: 'commit' });
  expect((await writing).stderr).toBe('');
  expect(await guest(dir, readCommands)).toMatchObject({ code: 0, stdout: '' });
  const [block] = (await client.run('query-block')) as [Record<string, never>];
  expect(block).toMatchObject({
    device: DEVICE,
    inserted: { file: 'sn4.qcow2', backing_file: 'sn1.qcow2', backing_file_depth: 2 },
  });
  client.send('{"execute": "quit"}\n');
  expect(await client.rest()).toContain('{"return": {}}\r\n');
  expect(await running.ended).toEqual({ code: 0, signal: null, stderr: '' });
  expect(existsSync(join(dir, 'nbd.sock'))).toBe(false);
  expect(
    JSON.parse(await mustIn(dir, 'qemu-img', 'info', '--output=json', 'sn4.qcow2')),
  ).toMatchObject({
    'backing-filename': 'sn1.qcow2',
  });
  for (const name of ['sn4.qcow2', 'sn1.qcow2', 'base.qcow2']) {
    await mustIn(dir, 'qemu-img', 'check', '-q', name);
  }
  expect((await view(dir)).equals(expectedView(dir))).toBe(true);
});

test('a signal in the midst of a job ends all of it, and nothing is lost', async () => {
  const dir = await makeChain();
  const { running, client } = await serveChain(dir);
  await client.run('block-commit', {
    ...{ device: DEVICE, base: 'sn1.qcow2', top: 'sn3.qcow2', speed: 1_000_000 },
  });
  expect((await guest(dir, writeCommands)).code).toBe(0);
  running.child.kill('SIGTERM');
  const cancelled = await client.event('BLOCK_JOB_CANCELLED');
  expect(cancelled['data']).toMatchObject({ device: DEVICE, len: SIZE });
  expect(await running.ended).toEqual({ code: 0, signal: null, stderr: '' });
  // The locks are free, and what was acknowledged is there.
  for (let i = 0; i <= 4; i++) await mustIn(dir, 'qemu-img', 'check', '-q', nameOf(i));
  expect((await view(dir)).equals(expectedView(dir))).toBe(true);
});

test('goes to the background, with a file that tells its number', async () => {
  const dir = tempDir();
  const options = ['--daemonize', '--pidfile', 'pid', '--blockdev', 'null-co,node-name=n'];
  const started = startDaemon('ours', [...MONITOR, ...options], dir);
  expect(await started.ended).toEqual({ code: 0, signal: null, stderr: '' });
  const pid = Number(readFileSync(join(dir, 'pid'), 'utf8'));
  const client = await Client.open(join(dir, 'qmp.sock'));
  const nodes = await client.run('query-named-block-nodes');
  expect(nodes).toMatchObject([{ 'node-name': 'n' }]);
  process.kill(pid, 'SIGTERM');
  await client.rest();
  for (let i = 0; i < 500 && existsSync(join(dir, 'pid')); i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(existsSync(join(dir, 'pid'))).toBe(false);
});

test('what keeps one in the background from starting is told', async () => {
  const dir = tempDir();
  const { code, stderr } = await startDaemon('ours', ['--daemonize', '--blockdev', 'foo'], dir)
    .ended;
  expect([code, stderr]).toEqual([
    1,
    "qemu-storage-daemon: --blockdev foo: Parameter 'driver' does not accept value 'foo'\n",
  ]);
});

test('serve: one line for a disk, with monitors for programs and for people', async () => {
  const dir = await makeChain();
  const sockets = ['--socket', 'nbd.sock', '--qmp', 'qmp.sock', '--hmp', 'hmp.sock'];
  const running = startProgram([process.execPath, CLI, 'serve', 'sn4.qcow2', ...sockets], dir);
  const people = await Client.connect(join(dir, 'hmp.sock'));
  expect(await people.textUntil(/\(qemu\) /)).toMatch(/^QEMU [\d.]+ monitor - type 'help'/);
  const uri = 'nbd+unix:///?socket=nbd.sock';
  await mustIn(dir, 'qemu-io', '-f', 'raw', '-c', 'write -q -P 7 8M 64k', uri);
  people.send('__com.redhat_block-commit disk sn1.qcow2 sn3.qcow2\n');
  await people.textUntil(/\r\n\(qemu\) /);
  const client = await Client.open(join(dir, 'qmp.sock'));
  for (;;) {
    people.send('info block-jobs\n');
    if ((await people.textUntil(/\r\n\(qemu\) /)).includes('No active jobs')) break;
  }
  people.send('info block\n');
  expect(await people.textUntil(/\r\n\(qemu\) /)).toMatch(
    /Backing file: {5}sn1\.qcow2 \(chain depth: 2\)/,
  );
  expect(await client.run('query-block-exports')).toMatchObject([{ id: 'disk', type: 'nbd' }]);
  people.send('quit\n');
  expect(await running.ended).toMatchObject({ code: 0, stderr: '' });
  await mustIn(dir, 'qemu-io', '-f', 'qcow2', '-r', '-c', 'read -q -P 7 8M 64k', 'sn4.qcow2');
});

test('an export shows where there is data, which layer has it, and what a bitmap calls dirty', async () => {
  const dir = await makeChain();
  await mustIn(dir, 'qemu-img', 'bitmap', '--add', '-g', '64k', 'sn4.qcow2', 'daily');
  const shown = 'nbd,id=e,node-name=top,name=disk,writable=on,bitmap.0=daily,allocation-depth=on';
  const options = [
    ...['--blockdev', 'qcow2,node-name=top,file.driver=file,file.filename=sn4.qcow2'],
    ...['--nbd-server', 'addr.type=unix,addr.path=nbd.sock,max-connections=3', '--export', shown],
  ];
  startProgram([process.execPath, CLI, 'storage-daemon', ...MONITOR, ...options], dir);
  const client = await Client.open(join(dir, 'qmp.sock'));
  const contexts = await mustIn(dir, 'nbdinfo', '--json', 'nbd+unix:///disk?socket=nbd.sock');
  const expected = ['base:allocation', 'qemu:dirty-bitmap:daily', 'qemu:allocation-depth'];
  expect(new Set(JSON.parse(contexts).exports[0].contexts)).toEqual(new Set(expected));
  const uri = 'nbd+unix:///disk?socket=nbd.sock';
  await mustIn(dir, 'qemu-io', '-f', 'raw', '-c', 'write -q -P 9 3M 64k', uri);
  const map = await mustIn(dir, 'nbdinfo', '--map=qemu:dirty-bitmap:daily', uri);
  expect(map.split('\n').map((line) => line.trim().split(/\s+/).slice(0, 3))).toEqual([
    ...[['0', '3145728', '0'], ['3145728', '65536', '1'], ['3211264', '13565952', '0'], ['']],
  ]);
  await client.run('blockdev-add', { driver: 'null-co', 'node-name': 'n' });
  await client.run('block-export-del', { id: 'e', mode: 'hard' });
  await client.event('BLOCK_EXPORT_DELETED');
});

test('over TLS both ways: a disk that another of our daemons serves', async () => {
  const dir = await makeChain();
  await makeCertificates(join(dir, 'pki'));
  const at = (endpoint: string) => [
    ...['--object', `tls-creds-x509,id=tls,endpoint=${endpoint},dir=pki`],
  ];
  const server = [
    ...at('server'),
    ...['--blockdev', 'qcow2,node-name=top,file.driver=file,file.filename=sn4.qcow2'],
    ...['--nbd-server', 'addr.type=unix,addr.path=nbd.sock,tls-creds=tls'],
    ...['--export', 'nbd,id=e,node-name=top,name=disk,writable=on'],
  ];
  startDaemon('ours', [...MONITOR, ...server], dir);
  await Client.open(join(dir, 'qmp.sock'));
  const remote = 'driver=nbd,server.type=unix,server.path=nbd.sock,export=disk,tls-creds=tls';
  const client = [
    ...at('client'),
    ...['--blockdev', `${remote},tls-hostname=localhost,node-name=remote`],
    ...['--nbd-server', 'addr.type=unix,addr.path=nbd2.sock'],
    ...['--export', 'nbd,id=e,node-name=remote,name=disk,writable=on'],
  ];
  startDaemon('ours', client, dir);
  await Client.connect(join(dir, 'nbd2.sock'));
  const uri = 'nbd+unix:///disk?socket=nbd2.sock';
  const commands = [
    'write -q -P 9 3M 64k',
    'flush',
    'read -q -P 9 3M 64k',
    'read -q -P 0x10 0 64k',
  ];
  await mustIn(dir, 'qemu-io', '-f', 'raw', ...commands.flatMap((each) => ['-c', each]), uri);
  const plain = await run('nbdinfo', ['nbd+unix:///disk?socket=nbd.sock'], { cwd: dir });
  expect(plain.code).not.toBe(0);
});

test('who comes when as many are connected as may be waits until one leaves', async () => {
  const dir = tempDir();
  const at = 'addr.type=unix,addr.path=nbd.sock,max-connections=2';
  const options = ['--blockdev', 'null-co,node-name=n,size=1048576', '--nbd-server', at];
  const daemon = startDaemon(
    'ours',
    [...MONITOR, ...options, '--export', 'nbd,id=n,node-name=n'],
    dir,
  );
  const client = await Client.open(join(dir, 'qmp.sock'));
  const [first] = [await greeted(dir), await greeted(dir)];
  const third = await Client.connect(join(dir, 'nbd.sock'));
  let isServed = false;
  const served = third.textUntil(/IHAVEOPT/).then(() => {
    isServed = true;
  });
  for (let i = 0; i < 20; i++) await client.run('query-block-exports');
  expect(isServed).toBe(false);
  first.socket.destroy();
  await served;
  client.send('{"execute": "quit"}\n');
  expect(await daemon.ended).toMatchObject({ code: 0, stderr: '' });
});

async function greeted(dir: string): Promise<Client> {
  const client = await Client.connect(join(dir, 'nbd.sock'));
  await client.textUntil(/IHAVEOPT/);
  return client;
}
