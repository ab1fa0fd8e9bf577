// Images that are damaged or held by somebody else: started as qemu-img we say what the real one says,
// in its order.

import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sideBySide, steady, wordsOf } from '../support/as-qemu.ts';
import { fillWithChain } from '../support/as-qemu-chain.ts';
import { CLI } from '../support/cli.ts';
import { qemuImg, qemuIo, run } from '../support/qemu.ts';

const { both } = sideBySide(fillWithChain);

const poke = (dir: string, name: string, offset: number, byte: number): Promise<unknown> =>
  qemuIo(join(dir, name), [`write -P ${byte} ${offset} 1`], 'raw');

test.each<[string, string, (dir: string) => void | Promise<void>]>([
  ['a missing deeper layer', 'commit t.qcow2', (dir) => rmSync(join(dir, 'b.qcow2'))],
  ['junk as base', 'commit t.qcow2', (dir) => writeFileSync(join(dir, 'b.qcow2'), 'junk junk')],
  ['an empty base', 'commit t.qcow2', (dir) => writeFileSync(join(dir, 'm.qcow2'), '')],
  [
    'a file of the magic number alone',
    'info -f qcow2 x',
    (dir) => writeFileSync(join(dir, 'x'), 'QFI\xfb', 'latin1'),
  ],
  [
    'a file of eight bytes',
    'info x',
    (dir) => writeFileSync(join(dir, 'x'), 'QFI\xfb\0\0\0\x03', 'latin1'),
  ],
  ['a header cut short', 'commit t.qcow2', (dir) => truncateSync(join(dir, 'm.qcow2'), 100)],
  ['an unknown feature in the top', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 79, 0x40)],
  ['an unknown feature in base', 'commit t.qcow2', (dir) => poke(dir, 'm.qcow2', 78, 0x40)],
  ['a top marked corrupt', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 79, 2)],
  ['version 9', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 7, 9)],
  ['a cluster size of 256', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 23, 8)],
  ['an L1 table out of place', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 47, 1)],
  ['a giant L1 table', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 36, 0x7f)],
  ['no refcount table', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 59, 0)],
  ['a bad refcount width', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 99, 9)],
  ['a giant snapshot table', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 60, 0x7f)],
  ['an unknown encryption', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 35, 7)],
  ['a version 3 header too short', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 103, 8)],
  [
    'a directory as base',
    'commit t.qcow2',
    (dir) => {
      rmSync(join(dir, 'm.qcow2'));
      mkdirSync(join(dir, 'm.qcow2'));
    },
  ],
  [
    'an unknown protocol',
    'commit t.qcow2',
    async (dir) => {
      const top = join(dir, 't.qcow2');
      await qemuImg('rebase', '-u', '-b', 'foo:bar', '-F', 'qcow2', top);
    },
  ],
  [
    'a loop',
    'info --backing-chain t.qcow2',
    async (dir) => {
      const base = join(dir, 'b.qcow2');
      await qemuImg('rebase', '-u', '-b', 't.qcow2', '-F', 'qcow2', base);
    },
  ],
])('%s: the words of QEMU', async (_what, line, prepare) => {
  const { theirs, mine } = await both(wordsOf(line), prepare);
  expect(steady(mine)).toEqual(steady(theirs));
  expect(mine.code).toBe(1);
});

/** qemu-io holds the image until it is told to stop. */
async function heldByQemu(file: string, readOnly: boolean): Promise<() => Promise<void>> {
  const args = ['-f', 'qcow2', ...(readOnly ? ['-r'] : []), file];
  const child = spawn('qemu-io', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.stdin.end('quit\n');
    await ended;
  };
}

test.each<[string, string, boolean]>([
  ['commit t.qcow2', 't.qcow2', false],
  ['commit t.qcow2', 't.qcow2', true],
  ['commit t.qcow2', 'm.qcow2', false],
  ['commit t.qcow2', 'm.qcow2', true],
  ['commit -b b.qcow2 t.qcow2', 'b.qcow2', true],
  ['commit -b b.qcow2 t.qcow2', 'm.qcow2', true],
  ['info t.qcow2', 't.qcow2', false],
  ['info -U t.qcow2', 't.qcow2', false],
  ['check t.qcow2', 't.qcow2', false],
  ['check -U t.qcow2', 't.qcow2', false],
  ['create -f qcow2 t.qcow2 1M', 't.qcow2', true],
])('%s while qemu-io holds %s (read-only: %s)', async (line, held, readOnly) => {
  const releases: (() => Promise<void>)[] = [];
  try {
    const { theirs, mine } = await both(wordsOf(line), async (dir) => {
      releases.push(await heldByQemu(join(dir, held), readOnly));
    });
    expect(steady(mine)).toEqual(steady(theirs));
  } finally {
    for (const release of releases) await release();
  }
});

test.each([
  'create -f qcow2 -o cluster_size=1000 x.qcow2 1M',
  'check b.qcow2',
  'commit -b nosuch t.qcow2',
])('%s: both outputs in one file come in the order of events', async (line) => {
  const { theirDir, myDir } = await both(['--version']);
  const link = join(theirDir, 'link');
  mkdirSync(link);
  symlinkSync(CLI, join(link, 'qemu-img'));
  // A leak: said on standard error, before the summary.
  for (const dir of [theirDir, myDir]) await poke(dir, 'b.qcow2', 0x2_0000 + 2 * 20, 1);
  const into = async (dir: string, program: string) => {
    await run('sh', ['-c', `${program} ${line} > out 2>&1`], { cwd: dir });
    return readFileSync(join(dir, 'out'), 'utf8');
  };
  const theirs = await into(theirDir, 'qemu-img');
  const mine = await into(myDir, `'${process.execPath}' '${join(link, 'qemu-img')}'`);
  expect(mine).toBe(theirs);
});
