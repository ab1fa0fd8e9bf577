// The command line of the storage daemon, beside QEMU's: the same words where something is wrong.

import { copyFileSync, existsSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type DaemonEnd, startDaemon, type Whose } from '../support/daemon.ts';
import { inLanes } from '../support/kill.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const SERVER = ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'];
const NULL = ['--blockdev', 'null-co,node-name=n'];
const CHARDEV = ['--chardev', 'null,id=c'];

const WRONG: readonly (readonly string[])[] = [
  ['foo'],
  ['--foo'],
  ['--blockdev'],
  ...['', 'file', 'null-co', 'foo,node-name=n', 'driver=file,node-name=a,filename=/nope'].map(
    (value) => ['--blockdev', value],
  ),
  ...['size=1M', 'size=xx', 'bla=1', 'read-only=maybe', 'x', '!=1'].map((more) => [
    '--blockdev',
    `null-co,node-name=n,${more}`,
  ]),
  ['--blockdev', '{"driver":"null-co","node-name":"n","size":"1M"}'],
  ['--blockdev', '{bad'],
  ['--blockdev', 'qcow2,node-name=q,file.driver=file,file.filename=t.qcow2,file.bla=1'],
  ['--blockdev', 'qcow2,node-name=q,file.driver=file,file.filename=t.qcow2,backing.driver=foo'],
  ['--blockdev', 'qcow2,node-name=q,file.driver=file,file.filename=t.qcow2,backing=nope'],
  ['--blockdev', 'qcow2,node-name=q,file=f,file.driver=file'],
  ['--blockdev', 'file,node-name=f,filename=t.qcow2', '--blockdev', 'qcow2,node-name=f,file=f'],
  [...CHARDEV, ...CHARDEV],
  ...['foo,id=c', 'socket,path=x', 'socket,id=c,path=/nope/x,server=on,wait=off'].map((value) => [
    '--chardev',
    value,
  ]),
  ['--chardev', 'socket,id=c,path=none'],
  ['--chardev', 'socket,id=c,path=x,server=on,wait=off,bla=1'],
  ...['foo', 'chardev=c', ''].map((value) => ['--monitor', value]),
  ...['c,mode=foo', 'c,mode=readline', 'd,mode=readline'].map((value) => [
    ...[...CHARDEV, '--monitor', value],
  ]),
  [...CHARDEV, '--monitor', 'c', '--monitor', 'c'],
  [...CHARDEV, '--monitor', '{"chardev":"c","pretty":true,"zz":1}'],
  ...['nbd', 'nbd,id=e,node-name=x', 'type=foo,id=e,node-name=x'].map((value) => [
    '--export',
    value,
  ]),
  ...['', 'addr.type=unix', 'addr.type=unix,addr.path=/nope/x', 'addr.type=foo'].map((value) => [
    '--nbd-server',
    value,
  ]),
  ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock,max-connections=x'],
  ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock,tls-creds=x'],
  ['--nbd-server', 'addr.type=inet,addr.host=127.0.0.1,addr.port=zz'],
  ['--nbd-server', 'addr.type=inet,addr.host=127.0.0.1'],
  [...SERVER, ...SERVER],
  [
    ...SERVER,
    ...NULL,
    ...['--export', 'nbd,id=e,node-name=n', '--export', 'nbd,id=e,node-name=n,name=b'],
  ],
  [...SERVER, ...NULL, ...['--export', 'nbd,id=e,node-name=n', '--export', 'nbd,id=f,node-name=n']],
  [...SERVER, ...NULL, '--export', 'nbd,id=e,node-name=n,bitmap.0=zz'],
  [...NULL, '--export', 'nbd,id=e,node-name=n'],
  [...SERVER, '--blockdev', 'null-co,node-name=n,read-only=on'].concat([
    ...['--export', 'nbd,id=e,node-name=n,writable=on'],
  ]),
  ...['', 'secret', 'secret,id=s', 'foo,id=s', 'tls-creds-x509,id=t,endpoint=zz'].map((value) => [
    '--object',
    value,
  ]),
  ['--object', 'secret,id=s,data=x', '--object', 'secret,id=s,data=x'],
  [
    ...SERVER,
    '--object',
    'secret,id=s,data=x',
    '--nbd-server',
    'addr.type=unix,addr.path=y,tls-creds=s',
  ],
  ['--pidfile', '/nope/pid'],
];

test('what is wrong is told in the same words', async () => {
  const dir = tempDir();
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', 't.qcow2', '1M');
  const told = async (whose: Whose, args: readonly string[], own: string): Promise<DaemonEnd> => {
    const { child, ended } = startDaemon(whose, args, own);
    const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
    const end = await ended;
    clearTimeout(timer);
    return end;
  };
  const differing: unknown[] = [];
  await inLanes(WRONG, async (args) => {
    // Several listen on a socket of the same name at the same time.
    const own = mkdtempSync(join(dir, 'line-'));
    copyFileSync(join(dir, 't.qcow2'), join(own, 't.qcow2'));
    const ours = await told('ours', args, own);
    const theirs = await told('qemu', args, own);
    if (JSON.stringify(ours) !== JSON.stringify(theirs)) differing.push({ args, ours, theirs });
  });
  expect(differing).toEqual([]);
});

test('what was started before is stopped where something is wrong', async () => {
  const dir = tempDir();
  const { ended } = startDaemon('ours', [...SERVER, '--blockdev', 'foo'], dir);
  expect((await ended).code).toBe(1);
  expect(existsSync(join(dir, 'nbd.sock'))).toBe(false);
});
