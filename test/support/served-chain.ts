// A chain that a daemon serves to a guest, in processes of their own.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CLI } from './cli.ts';
import { Client, MONITOR, startProgram } from './daemon.ts';
import { mustIn, run } from './qemu.ts';
import { tempDir } from './temp.ts';

export const KIB = 1024;
export const SIZE = 16 * 1024 * KIB;

/** base <- sn1 <- sn2 <- sn3 <- sn4, each with some of its own. */
export async function makeChain(): Promise<string> {
  const dir = tempDir();
  for (let i = 0; i <= 4; i++) {
    const name = nameOf(i);
    const backing = i === 0 ? [] : ['-b', nameOf(i - 1), '-F', 'qcow2'];
    await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...backing, name, String(SIZE));
    const write = `write -q -P ${0x10 + i} ${i}M ${6 - i}M`;
    await mustIn(dir, 'qemu-io', '-f', 'qcow2', '-c', write, name);
  }
  await mustIn(dir, 'qemu-img', 'convert', '-O', 'raw', 'sn4.qcow2', 'before.raw');
  return dir;
}

export const nameOf = (i: number) => (i === 0 ? 'base.qcow2' : `sn${i}.qcow2`);
export const DEVICE = 'drive-virtio-disk0';
const URI = 'nbd+unix:///disk?socket=nbd.sock';

export async function serveChain(dir: string) {
  const running = startProgram(
    [process.execPath, CLI, 'storage-daemon', ...MONITOR].concat([
      ...['--drive', `file=sn4.qcow2,format=qcow2,id=${DEVICE}`],
      ...['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'],
    ]),
    dir,
  );
  const client = await Client.open(join(dir, 'qmp.sock'));
  await client.run('nbd-server-add', { device: DEVICE, name: 'disk', writable: true });
  return { running, client };
}

/** What a guest writes: at which place (in units of 4 KiB) which byte. */
export const WRITES = Array.from(
  { length: 200 },
  (_, i) => [(i * 37) % 4096, (i % 200) + 30] as const,
);

export const guest = (dir: string, commands: readonly string[]) =>
  run('qemu-io', ['-f', 'raw', ...commands.flatMap((each) => ['-c', each]), URI], { cwd: dir });

export const writeCommands = WRITES.map(([at, byte]) => `write -q -P ${byte} ${at * 4}k 4k`);
export const readCommands = WRITES.map(([at, byte]) => `read -q -P ${byte} ${at * 4}k 4k`);

/** As `before.raw`, but for what the guest has written. */
export function expectedView(dir: string): Buffer {
  const view = readFileSync(join(dir, 'before.raw'));
  for (const [at, byte] of WRITES) view.fill(byte, at * 4 * KIB, (at + 1) * 4 * KIB);
  return view;
}

export async function view(dir: string): Promise<Buffer> {
  await mustIn(dir, 'qemu-img', 'convert', '-O', 'raw', 'sn4.qcow2', 'now.raw');
  return readFileSync(join(dir, 'now.raw'));
}
