// `compare` beside the real qemu-img: the same bytes and exit codes, progress included, over every
// kind of cluster, and over layers of random chains.

import { spawn } from 'node:child_process';
import { copyFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCompare } from '../../src/cli/compare.ts';
import { chainSpecsInOneFile } from '../support/arbitraries.ts';
import { buildChain } from '../support/build-chain.ts';
import { asQemu, qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { keptOutput } from '../support/output.ts';
import { type Outcome, qemuIo, run } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const ours = asQemu();
const template = makeTemp();
afterAll(() => {
  ours.remove();
  template.cleanup();
});

const at = (name: string) => join(template.dir, name);

beforeAll(async () => {
  const images = new Images(template.dir);
  await images.create('r.raw', '5M');
  await images.io('r.raw', 'write -P 1 0 3M', 'write -P 2 4M 4k');
  copyFileSync(at('r.raw'), at('r2.raw'));
  await images.io('r2.raw', 'write -P 9 2500k 1');
  await images.create('q.qcow2', '5M', { backing: 'r.raw' });
  await images.create('s.qcow2', '5M', { backing: 'r2.raw', options: 'cluster_size=4k' });
  await images.io('s.qcow2', 'write -P 1 2496k 8k', 'write -z 3M 64k', 'write -c -P 1 1M 4k');
  await images.create('longer.qcow2', '9M', { backing: 'r.raw' });
  await images.create('more.qcow2', '9M', { backing: 'r.raw' });
  await images.io('more.qcow2', 'write -z 6M 1M', 'write -P 0 7M 1M', 'write -P 1 8704k 1k');
  await images.create('e.qcow2', '5M');
  await images.create('z.qcow2', '5M');
  await images.io('z.qcow2', 'write -z 1M 64k', 'write -P 0 2M 64k');
  // Subclusters of all kinds, in a cluster and across.
  const options = 'extended_l2=on,cluster_size=128k';
  await images.create('x.qcow2', '5M', { options, backing: 'r2.raw' });
  await images.io('x.qcow2', 'write -P 1 2496k 8k', 'write -z 3M 66k', 'write -c -P 1 1M 128k');
  await images.create('xp.qcow2', '5M', { options: `${options},preallocation=metadata` });
  await images.io('xp.qcow2', 'write -P 1 0 3M', 'write -P 2 4M 4k', 'write -z 4100k 4k');
  await images.create('pre.qcow2', '5M', { options: 'preallocation=metadata' });
  await images.create('empty.qcow2', '0');
  await images.create('c.qcow2', '1M');
  await images.io(
    'c.qcow2',
    'write -P 1 0 64k',
    'write -c -P 3 128k 64k',
    'write -c -P 3 192k 64k',
  );
  copyFileSync(at('c.qcow2'), at('bad.qcow2'));
  const junk = Uint8Array.from({ length: 200 }, (_, i) => (i * 89 + 7) % 251);
  writeFileSync(at('junk'), junk);
  await qemuIo('bad.qcow2', [`write -s junk ${0x60000} 200`], 'raw', template.dir);
  // The L2 table lies nowhere.
  copyFileSync(at('c.qcow2'), at('l1.qcow2'));
  await qemuIo('l1.qcow2', [`write -P 2 ${0x30000 + 6} 1`], 'raw', template.dir);
  await images.create('i1.qcow2', '20G', { options: 'cluster_size=2M' });
  await images.create('i2.raw', '20G');
  await images.io('i1.qcow2', 'write -P 1 15G 10M');
  await images.io('i2.raw', 'write -P 1 15G 10M');
  await images.create('big1.qcow2', '1T');
  await images.create('big2.qcow2', '1T');
  for (const name of ['big1.qcow2', 'big2.qcow2']) await images.io(name, 'write -P 1 500G 9M');
  await images.create('odd.raw', '199999');
  await images.io('odd.raw', 'write -P 1 0 200');
  truncateSync(at('odd.raw'), 199_999);
  await images.create('even.raw', '200192');
  await images.io('even.raw', 'write -P 1 0 200');
});

const LINES = `
compare r.raw r.raw
compare r.raw r2.raw
compare r2.raw r.raw
compare -q r.raw r2.raw
compare -f raw -F qcow2 r.raw q.qcow2
compare q.qcow2 s.qcow2
compare -s q.qcow2 s.qcow2
compare -p q.qcow2 s.qcow2
compare q.qcow2 longer.qcow2
compare -p longer.qcow2 q.qcow2
compare -s longer.qcow2 q.qcow2
compare -p more.qcow2 longer.qcow2
compare -p more.qcow2 q.qcow2
compare -p q.qcow2 more.qcow2
compare e.qcow2 z.qcow2
compare -s e.qcow2 z.qcow2
compare -s e.qcow2 pre.qcow2
compare -p z.qcow2 pre.qcow2
compare -s pre.qcow2 pre.qcow2
compare -p x.qcow2 s.qcow2
compare -s x.qcow2 s.qcow2
compare -p xp.qcow2 r.raw
compare -p -s xp.qcow2 x.qcow2
compare empty.qcow2 empty.qcow2
compare -p empty.qcow2 e.qcow2
compare -s empty.qcow2 e.qcow2
compare -p empty.qcow2 q.qcow2
compare c.qcow2 bad.qcow2
compare bad.qcow2 c.qcow2
compare -p -s c.qcow2 bad.qcow2
compare odd.raw even.raw
compare -s odd.raw even.raw
compare -p i1.qcow2 i2.raw
compare -s i1.qcow2 i2.raw
compare -p big1.qcow2 big2.qcow2
compare -s -p big1.qcow2 big2.qcow2
compare -U -T none e.qcow2 z.qcow2
compare --force-share e.qcow2 z.qcow2
compare --object secret,id=s,data=abc e.qcow2 z.qcow2
compare --image-opts driver=qcow2,file.filename=e.qcow2 driver=qcow2,file.filename=z.qcow2
compare e.qcow2 json:{"driver":"qcow2","file":{"filename":"s.qcow2"},"backing":null}
compare -p e.qcow2 json:{"driver":"qcow2","file":{"filename":"q.qcow2"},"backing":null}
compare --image-opts file.filename=e.qcow2 z.qcow2
compare -f qcow2 --image-opts file.filename=e.qcow2 file.filename=z.qcow2
compare -F qcow2 --image-opts file.filename=e.qcow2 file.filename=z.qcow2
compare -F raw e.qcow2 z.qcow2
compare -f raw -F raw e.qcow2 z.qcow2
compare -f foo e.qcow2 z.qcow2
compare -F foo e.qcow2 z.qcow2
compare -f qcow2 r.raw e.qcow2
compare nope e.qcow2
compare e.qcow2 nope
compare . e.qcow2
compare -p nope e.qcow2
compare -p e.qcow2 nope
compare -q e.qcow2 nope
compare -T foo e.qcow2 z.qcow2
compare -p -T foo e.qcow2 z.qcow2
compare --object foo e.qcow2 z.qcow2
compare --object secret,id=a e.qcow2 z.qcow2
compare
compare e.qcow2
compare a b c
compare -T foo
compare --object foo
compare -Z e.qcow2 z.qcow2
compare --nosuch e.qcow2 z.qcow2
compare -f
compare -psq e.qcow2 z.qcow2
`;

test.each(LINES.trim().split('\n'))('qemu-img %s', async (line) => {
  const args = line.split(' ');
  const options = { cwd: template.dir };
  expect(await ours.run(args, template.dir)).toEqual(await run('qemu-img', args, options));
});

test('a map that can not be read: the exit code, and the last line of QEMU', async () => {
  for (const pair of [
    ['l1.qcow2', 'c.qcow2'],
    ['c.qcow2', 'l1.qcow2'],
  ]) {
    const args = ['compare', ...pair];
    const theirs = await run('qemu-img', args, { cwd: template.dir });
    const mine = await ours.run(args, template.dir);
    expect(theirs.code).toBe(3);
    expect({ ...mine, stderr: '' }).toEqual({ ...theirs, stderr: '' });
    const lastLine = (text: string) => text.trimEnd().split('\n').at(-1);
    expect(lastLine(mine.stderr)).toBe(lastLine(theirs.stderr));
    // Under our own name we say what is wrong.
    expect((await qimg(args, template.dir)).stderr).toMatch(/L2 table offset .* unaligned/);
  }
});

test('1 TiB of holes needs little memory and time', async () => {
  const limits = ['--as=1073741824', '--cpu=10', process.execPath];
  const link = join(import.meta.dirname, '..', '..', 'dist', 'cli.cjs');
  const args = [...limits, link, 'compare', at('big1.qcow2'), at('big2.qcow2')];
  expect(await run('prlimit', args)).toEqual({
    code: 0,
    stdout: 'Images are identical.\n',
    stderr: '',
  });
});

test('an image that another process writes to is not opened, but with -U', async () => {
  const child = spawn('qemu-io', ['-f', 'qcow2', at('z.qcow2')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  try {
    await new Promise((resolve) => child.stdout.once('data', resolve));
    for (const args of [
      ['z.qcow2', 'e.qcow2'],
      ['e.qcow2', 'z.qcow2'],
      ['-U', 'z.qcow2', 'e.qcow2'],
    ]) {
      const line = ['compare', ...args];
      const theirs = await run('qemu-img', line, { cwd: template.dir });
      expect(await ours.run(line, template.dir)).toEqual(theirs);
    }
  } finally {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.stdin.end('quit\n');
    await ended;
  }
});

/** In this process, and so much faster. */
async function compareHere(args: readonly string[]): Promise<Outcome> {
  const output = keptOutput(true);
  const code = await runCompare(args, output);
  return { code, stdout: output.stdout, stderr: output.stderr };
}

test('layers of random chains', { timeout: 300_000 }, () =>
  fc.assert(
    fc.asyncProperty(chainSpecsInOneFile, async (spec) => {
      const { dir, cleanup } = makeTemp();
      const commands: string[] = [];
      try {
        const { layers } = await buildChain(spec, dir, commands);
        const [below, top] = layers.slice(-2).map(({ file }) => file);
        if (below === undefined || top === undefined) throw new Error('a chain of one layer');
        const raw = join(dir, 'copy.raw');
        await run('qemu-img', ['convert', '-O', 'raw', top, raw]);
        for (const args of [
          ['-p', below, top],
          ['-s', top, below],
          ['-p', '-F', 'raw', top, raw],
          ['-s', '-F', 'raw', top, raw],
        ]) {
          const theirs = await run('qemu-img', ['compare', ...args]);
          expect(await compareHere(args), commands.join('\n')).toEqual(theirs);
        }
      } finally {
        cleanup();
      }
    }),
    { seed: 11, numRuns: 20 },
  ),
);
