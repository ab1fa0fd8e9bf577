// Images that other programs of QEMU hold: started as qemu-img we say what the real one says. And the
// other way round: what they say while we commit.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import { lockedBytes } from '../support/held-bytes.ts';
import { Images } from '../support/images.ts';
import { start } from '../support/limited.ts';
import { run } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const { dir: place, cleanup } = makeTemp();
const template = new Images(makeDirectory('template'));
const link = asQemu();
let count = 0;

function makeDirectory(name: string): string {
  const dir = join(place, name);
  cpSync(makeTempFor(), dir, { recursive: true });
  return dir;
}

function makeTempFor(): string {
  const empty = makeTemp();
  afterAll(empty.cleanup);
  return empty.dir;
}

beforeAll(async () => {
  await template.create('base.qcow2', '4M');
  await template.create('mid.qcow2', '4M', { backing: 'base.qcow2' });
  await template.create('top.qcow2', '4M', { backing: 'mid.qcow2' });
  await template.io('top.qcow2', 'write 0 2M');
});
afterAll(() => {
  link.remove();
  cleanup();
});

function fresh(): Images {
  const dir = join(place, String(count++));
  cpSync(template.dir, dir, { recursive: true });
  return new Images(dir);
}

const daemon = (file: string, readOnly: boolean): readonly string[] => [
  'qemu-storage-daemon',
  '--blockdev',
  `driver=qcow2,node-name=n,read-only=${readOnly ? 'on' : 'off'},file.driver=file,file.filename=${file}`,
];
const exported = (file: string, writable: boolean): readonly string[] => [
  ...daemon(file, !writable),
  '--nbd-server',
  `addr.type=unix,addr.path=${file}.sock`,
  '--export',
  `type=nbd,id=e,node-name=n,writable=${writable ? 'on' : 'off'}`,
];

const HOLDERS: readonly (readonly [string, (file: string) => readonly string[]])[] = [
  ['qemu-io', (file) => ['qemu-io', '-f', 'qcow2', file]],
  ['qemu-io -r', (file) => ['qemu-io', '-f', 'qcow2', '-r', file]],
  ['qemu-nbd', (file) => ['qemu-nbd', '-t', '-f', 'qcow2', '-k', `${file}.sock`, file]],
  ['qemu-nbd -r', (file) => ['qemu-nbd', '-r', '-t', '-f', 'qcow2', '-k', `${file}.sock`, file]],
  ['qemu-storage-daemon', (file) => daemon(file, false)],
  ['qemu-storage-daemon, read-only', (file) => daemon(file, true)],
  ['qemu-storage-daemon, writable export', (file) => exported(file, true)],
  ['qemu-storage-daemon, export', (file) => exported(file, false)],
];

const LINES = [
  'info mid.qcow2',
  'map -U mid.qcow2',
  'check mid.qcow2',
  'snapshot -c s mid.qcow2',
  'commit top.qcow2',
  'commit -b base.qcow2 top.qcow2',
  'create -f qcow2 mid.qcow2 4M',
];

/** Until the file has locks of a reader at least, and they stay the same. */
async function held(child: ChildProcess, file: string): Promise<void> {
  let before = '';
  for (;;) {
    const now = lockedBytes(file).join();
    if (now !== '' && now === before) return;
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} has ended`);
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

test.for(HOLDERS)('held by %s', async ([, command]) => {
  const images = fresh();
  const [program = '', ...args] = command(images.path('mid.qcow2'));
  const child = spawn(program, args, { cwd: images.dir, stdio: ['pipe', 'ignore', 'ignore'] });
  const ended = once(child, 'close');
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await held(child, images.path('mid.qcow2'));
  const said: (readonly [string, unknown, unknown])[] = [];
  for (const line of LINES) {
    const words = line.split(' ');
    const theirs = await run('qemu-img', words, { cwd: images.dir });
    const mine = await link.run(words, images.dir);
    said.push([line, mine.stderr, mine.code]);
    expect([line, mine.stderr, mine.code]).toEqual([line, theirs.stderr, theirs.code]);
  }
  expect(said.some(([, , code]) => code === 1)).toBe(true);
});

test('while we commit, QEMU hears of it in the same words', async () => {
  const images = fresh();
  const { child } = start(['commit', '-r', '32k', '-b', 'base.qcow2', 'top.qcow2'], images.dir);
  await expect
    .poll(() => lockedBytes(images.path('mid.qcow2')), { timeout: 30_000 })
    .toContain(200);
  const refusals: readonly (readonly [string, string, readonly string[]])[] = [
    ['top.qcow2', 'write', ['qemu-io', '-f', 'qcow2', '-c', 'read 0 512', 'top.qcow2']],
    [
      'mid.qcow2',
      'consistent read',
      ['qemu-io', '-f', 'qcow2', '-r', '-c', 'read 0 512', 'mid.qcow2'],
    ],
    ['base.qcow2', 'write', ['qemu-nbd', '-f', 'qcow2', '-k', images.path('s'), 'base.qcow2']],
    [
      'base.qcow2',
      'shared "write',
      ['qemu-nbd', '-r', '-f', 'qcow2', '-k', images.path('s'), 'base.qcow2'],
    ],
    ['mid.qcow2', 'consistent read', daemon('mid.qcow2', true)],
    ['base.qcow2', 'write', daemon('base.qcow2', false)],
  ];
  for (const [file, lock, [program = '', ...args]] of refusals) {
    const { stderr, stdout } = await run(program, args, { cwd: images.dir });
    const words = lock.startsWith('shared') ? `shared "write" lock` : `"${lock}" lock`;
    expect(stderr + stdout, `${program} ${file}`).toContain(`Failed to get ${words}`);
    expect(stderr + stdout).toContain(`Is another process using the image [${file}]?`);
  }
  expect(child.exitCode).toBe(null);
});
