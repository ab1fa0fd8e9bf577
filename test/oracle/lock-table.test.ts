// Which bytes each command locks in each file of a chain: measured on qemu-img, byte by byte, and the
// same of ours. A byte is found out by holding its counterpart: who uses a permission is refused by
// those who don't share it, and the other way round.

import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { wordsOf } from '../support/as-qemu.ts';
import { asQemu, CLI } from '../support/cli.ts';
import { lockedBytes, whileHeld } from '../support/held-bytes.ts';
import { Images } from '../support/images.ts';
import { type Outcome, run } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

type Bytes = readonly number[];

const NONE: Bytes = [];
const LOOKS: Bytes = [201, 203];
const READS: Bytes = [100, 201, 203];
const WRITES: Bytes = [100, 101, 103, 201, 203];
const READS_RAW: Bytes = [100];
const READS_DATA: Bytes = [100, 203];
const WRITES_DATA: Bytes = [100, 101, 103, 203];

const TABLE: readonly (readonly [line: string, Readonly<Record<string, Bytes>>])[] = [
  ['info top.qcow2', { 'top.qcow2': LOOKS, 'mid.qcow2': NONE }],
  ['info --backing-chain mid.qcow2', { 'mid.qcow2': LOOKS, 'base.qcow2': LOOKS }],
  ['check mid.qcow2', { 'mid.qcow2': READS, 'base.qcow2': READS }],
  ['map mid.qcow2', { 'mid.qcow2': READS, 'base.qcow2': READS }],
  ['map -U mid.qcow2', { 'mid.qcow2': [100], 'base.qcow2': [100] }],
  ['info -U mid.qcow2', { 'mid.qcow2': NONE }],
  ['compare mid.qcow2 other.qcow2', { 'mid.qcow2': READS, 'other.qcow2': READS }],
  ['snapshot -c s mid.qcow2', { 'mid.qcow2': WRITES, 'base.qcow2': READS }],
  ['bitmap --add mid.qcow2 b', { 'mid.qcow2': WRITES, 'base.qcow2': NONE }],
  ['check -r all mid.qcow2', { 'mid.qcow2': WRITES, 'base.qcow2': READS }],
  ['resize -q mid.qcow2 9M', { 'mid.qcow2': WRITES, 'base.qcow2': READS }],
  [
    'rebase -u -b base.qcow2 -F qcow2 top.qcow2',
    { 'top.qcow2': WRITES, 'mid.qcow2': NONE, 'base.qcow2': NONE },
  ],
  ['snapshot -l mid.qcow2', { 'mid.qcow2': READS, 'base.qcow2': READS }],
  ['commit top.qcow2', { 'top.qcow2': WRITES, 'mid.qcow2': WRITES, 'base.qcow2': READS }],
  ['commit -d mid.qcow2', { 'mid.qcow2': WRITES, 'base.qcow2': WRITES }],
  [
    'commit -b base.qcow2 top.qcow2',
    { 'top.qcow2': WRITES, 'mid.qcow2': [100, 200, 201, 203], 'base.qcow2': WRITES },
  ],
  ['create -f qcow2 other.qcow2 8M', { 'other.qcow2': WRITES }],
  ['create -f raw new.raw 8M', { 'new.raw': [101, 103, 203] }],
  ['info -f raw disk.raw', { 'disk.raw': NONE }],
  ['map -f raw disk.raw', { 'disk.raw': READS_RAW }],
  ['map on-raw.qcow2', { 'on-raw.qcow2': READS, 'disk.raw': READS_RAW }],
  ['map data.qcow2', { 'data.qcow2': READS, 'data.raw': READS_DATA }],
  ['commit on-data.qcow2', { 'data.qcow2': WRITES, 'data.raw': WRITES_DATA }],
];

/** Those of the second hundred keep others from the first, and the other way round. */
const counterpart = (byte: number): number => (byte < 200 ? byte + 100 : byte - 100);
/** Nobody asks for "write unchanged", or keeps others from it. */
const IDLE: Bytes = [102, 202];
const ASKED: Bytes = [100, 101, 103, 200, 201, 203];

const { dir: place, cleanup } = makeTemp();
const template = new Images(join(place, 'template'));
const link = asQemu();
beforeAll(async () => {
  cpSync(makeEmpty(), template.dir, { recursive: true });
  await template.create('base.qcow2', '8M');
  await template.create('mid.qcow2', '8M', { backing: 'base.qcow2' });
  await template.create('top.qcow2', '8M', { backing: 'mid.qcow2' });
  await template.create('other.qcow2', '8M');
  await template.create('disk.raw', '8M');
  await template.create('new.raw', '8M');
  await template.create('on-raw.qcow2', '8M', { backing: 'disk.raw' });
  await template.create('larger.qcow2', '9M', { backing: 'disk.raw' });
  await template.create('data.qcow2', '8M', { options: 'data_file=data.raw' });
  await template.create('on-data.qcow2', '8M', { backing: 'data.qcow2' });
  await template.io('top.qcow2', 'write 0 6M');
});
afterAll(() => {
  link.remove();
  cleanup();
});

function makeEmpty(): string {
  const { dir, cleanup: remove } = makeTemp();
  afterAll(remove);
  return dir;
}

let count = 0;
function freshCopy(): string {
  const dir = join(place, String(count++));
  cpSync(template.dir, dir, { recursive: true });
  return dir;
}

const qemu = (line: string, cwd: string) => run('qemu-img', wordsOf(line), { cwd });
const ours = (line: string, cwd: string) => link.run(wordsOf(line), cwd);

const isRefused = ({ stderr }: Outcome) => /Failed to get .* lock/.test(stderr);
const inOrder = (bytes: Bytes) => [...bytes].sort((a, b) => a - b);

/** What is said while one byte of a file is held, by byte. */
async function answers(
  line: string,
  cwd: string,
  file: string,
  bytes: Bytes,
  program: typeof qemu,
): Promise<ReadonlyMap<number, Outcome>> {
  const found = new Map<number, Outcome>();
  for (const byte of bytes) {
    // A base that had to grow once would not have to again, and what can't be created is removed.
    for (const name of [file, 'disk.raw']) cpSync(template.path(name), join(cwd, name));
    const held = new Map([[join(cwd, file), [byte, ...IDLE]]]);
    found.set(byte, await whileHeld(held, () => program(line, cwd)));
  }
  return found;
}

test.concurrent.for(TABLE)('%s', { timeout: 60_000 }, async ([line, files], { expect }) => {
  const [theirDir, myDir] = [freshCopy(), freshCopy()];
  const tolerated = new Map<string, readonly number[]>();
  for (const [file, expected] of Object.entries(files)) {
    const theirs = await answers(line, theirDir, file, ASKED, qemu);
    const refused = ASKED.filter((byte) => isRefused(theirs.get(byte) as Outcome));
    expect(inOrder(refused.map(counterpart)), `qemu-img, ${file}`).toEqual(expected);
    const mine = await answers(line, myDir, file, refused, ours);
    for (const byte of refused) {
      expect(mine.get(byte), `${byte} of ${file} held`).toEqual(theirs.get(byte));
    }
    const rest = [...ASKED, ...IDLE].filter((byte) => !refused.includes(byte));
    tolerated.set(join(myDir, file), rest);
  }
  const free = await whileHeld(tolerated, () => ours(line, myDir));
  expect(free.stderr, 'what QEMU tolerates').toBe('');
});

// QEMU lets others write to a raw disk while it commits to it; we do not.
test.for([
  ['commit on-raw.qcow2', [100, 101, 203], [100, 101, 201, 203]],
  ['commit larger.qcow2', [100, 101, 103, 203], [100, 101, 103, 201, 203]],
] as const)('%s: a raw base is kept from other writers', { timeout: 60_000 }, async (row) => {
  const [line, their, my] = row;
  const seen = [];
  for (const program of [qemu, ours]) {
    const found = await answers(line, freshCopy(), 'disk.raw', ASKED, program);
    const refused = ASKED.filter((byte) => isRefused(found.get(byte) as Outcome));
    seen.push(inOrder(refused.map(counterpart)));
  }
  expect(seen).toEqual([their, my]);
});

/** Starts a slow commit and waits until it holds what it needs for its job. */
async function duringJob(program: string, ...words: readonly string[]): Promise<readonly Bytes[]> {
  const cwd = freshCopy();
  const args = [...words, 'commit', '-r', '1M', '-b', 'base.qcow2', 'top.qcow2'];
  const child: ChildProcess = spawn(program, args, { cwd, stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('close', resolve));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const files = ['top.qcow2', 'mid.qcow2', 'base.qcow2'].map((name) => join(cwd, name));
  while (child.exitCode === null && !lockedBytes(files[1] as string).includes(200)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return files.map(lockedBytes);
}

test('during the job of a commit: top, the layer between, base', { timeout: 60_000 }, async () => {
  const theirs = await duringJob('qemu-img');
  expect(theirs).toEqual([WRITES, [100, 200, 201, 203], WRITES]);
  expect(await duringJob(process.execPath, CLI)).toEqual(theirs);
});
