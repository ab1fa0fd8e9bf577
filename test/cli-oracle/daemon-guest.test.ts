// A real guest boots from a disk that we serve, and writes to it while layers below are merged.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Client, MONITOR, startDaemon, startProgram } from '../support/daemon.ts';
import {
  bootSector,
  FIRST_PIECE,
  GUEST_CONTENT,
  machine,
  PIECE,
  PIECES,
} from '../support/guest-program.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const NODES = [
  ...['base', 'mid', 'top'].map((name) => `file,node-name=f${name[0]},filename=${name}.qcow2`),
  'qcow2,node-name=base,file=fb',
  'qcow2,node-name=mid,file=fm,backing=base',
  'qcow2,node-name=top,file=ft,backing=mid',
].flatMap((options) => ['--blockdev', options]);

const EXPORT = [
  ...['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'],
  ...['--export', 'nbd,id=e,node-name=top,name=disk,writable=on'],
];

async function makeDisk(): Promise<string> {
  const dir = tempDir();
  writeFileSync(
    join(dir, 'boot.raw'),
    Buffer.concat([bootSector(), Buffer.alloc(16 * 2 ** 20 - 512)]),
  );
  await mustIn(dir, 'qemu-img', 'convert', '-O', 'qcow2', 'boot.raw', 'base.qcow2');
  const create = ['create', '-q', '-f', 'qcow2'];
  await mustIn(dir, 'qemu-img', ...create, '-b', 'base.qcow2', '-F', 'qcow2', 'mid.qcow2');
  await mustIn(dir, 'qemu-io', '-c', 'write -q -P 0x22 1M 12M', 'mid.qcow2');
  await mustIn(dir, 'qemu-img', ...create, '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2');
  return dir;
}

test('what it writes it reads, and it is there afterwards', async () => {
  const dir = await makeDisk();
  const daemon = startDaemon('ours', [...MONITOR, ...NODES, ...EXPORT], dir);
  const client = await Client.open(join(dir, 'qmp.sock'));
  const guest = startProgram(machine('nbd+unix:///disk?socket=nbd.sock'), dir);
  const commit = { device: 'top', 'job-id': 'j', 'top-node': 'mid', speed: 4_000_000 };
  await client.run('block-commit', commit);
  const done = await client.event('BLOCK_JOB_COMPLETED');
  expect(done['data']).toMatchObject({ device: 'j', len: 16 * 2 ** 20, offset: 16 * 2 ** 20 });
  expect(await guest.ended).toEqual({ code: GUEST_CONTENT, signal: null, stderr: '' });
  client.send('{"execute": "quit"}\n');
  expect(await daemon.ended).toEqual({ code: 0, signal: null, stderr: '' });
  for (const name of ['base', 'top']) await mustIn(dir, 'qemu-img', 'check', '-q', `${name}.qcow2`);
  const about = await mustIn(dir, 'qemu-img', 'info', '--output=json', 'top.qcow2');
  expect(JSON.parse(about)).toMatchObject({ 'backing-filename': 'base.qcow2' });
  await mustIn(dir, 'qemu-img', 'convert', '-O', 'raw', 'top.qcow2', 'now.raw');
  const expected = Buffer.alloc(16 * 2 ** 20);
  bootSector().copy(expected);
  expected.fill(0x22, 2 ** 20, 13 * 2 ** 20);
  for (let i = 0; i < PIECES; i++) {
    const word = Buffer.of(i % 256, i >> 8);
    expected.fill(word, FIRST_PIECE + i * PIECE, FIRST_PIECE + (i + 1) * PIECE);
  }
  expect(readFileSync(join(dir, 'now.raw')).equals(expected)).toBe(true);
});
