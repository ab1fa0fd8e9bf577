// Two commits at once on chains that overlap, ours and those of qemu-img: whoever comes second is
// refused, and nothing is harmed.

import { spawn } from 'node:child_process';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { asQemu, CLI } from '../support/cli.ts';
import { lockedBytes } from '../support/held-bytes.ts';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { type Outcome, run } from '../support/qemu.ts';
import { checkNotCorrupt } from '../support/refusals.ts';
import { makeTemp } from '../support/temp.ts';

const { dir, cleanup } = makeTemp();
afterAll(cleanup);
let template: Promise<Images> | undefined;

/** base <- mid <- one, two; raw <- left, right. */
async function build(): Promise<Images> {
  const images = new Images(dir);
  await images.create('base.qcow2', '4M');
  await images.create('mid.qcow2', '4M', { backing: 'base.qcow2' });
  await images.io('mid.qcow2', 'write -P 9 1M 2M');
  await images.create('base.raw', '4M');
  for (const [name, backing] of [
    ['one.qcow2', 'mid.qcow2'],
    ['two.qcow2', 'mid.qcow2'],
    ['left.qcow2', 'base.raw'],
    ['right.qcow2', 'base.raw'],
  ] as const) {
    await images.create(name, '4M', { backing });
    await images.io(name, `write -P ${name.length} 0 2M`);
  }
  return images;
}

/** Starts a commit that takes a minute, and waits until it writes to its base. */
async function slowCommit(
  images: Images,
  program: readonly string[],
  base: string,
  words: readonly string[],
): Promise<{ readonly pid: number | undefined; stop(): Promise<void> }> {
  const [file = '', ...before] = program;
  const args = [...before, 'commit', '-r', '32k', ...words];
  const child = spawn(file, args, { cwd: images.dir, stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  onTestFinished(stop);
  while (child.exitCode === null && !lockedBytes(images.path(base)).includes(101)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(child.exitCode, `commit ${words.join(' ')} is under way`).toBe(null);
  return { pid: child.pid, stop };
}

const THEIRS = ['qemu-img'];
const OURS = [process.execPath, CLI];
const PAIRS = [
  ['ours', 'ours'],
  ['qemu-img', 'ours'],
  ['ours', 'qemu-img'],
] as const;

const OVERLAPS = [
  ['the same top', 'mid.qcow2', '-d one.qcow2', '-d one.qcow2'],
  ['two tops of one base', 'mid.qcow2', '-d one.qcow2', '-d two.qcow2'],
  ['the base of one is between in the other', 'mid.qcow2', 'one.qcow2', '-b base.qcow2 two.qcow2'],
  [
    'what is between in one is the base of the other',
    'base.qcow2',
    '-b base.qcow2 one.qcow2',
    'two.qcow2',
  ],
  ['the base of one is the top of the other', 'mid.qcow2', 'one.qcow2', 'mid.qcow2'],
  ['the top of one is the base of the other', 'base.qcow2', 'mid.qcow2', 'one.qcow2'],
] as const;

const RAW = ['two tops of a raw base', 'base.raw', '-d left.qcow2', '-d right.qcow2'] as const;

async function second(program: string, images: Images, words: readonly string[]): Promise<Outcome> {
  if (program === 'ours') return limited(['commit', '--force', ...words], images.dir);
  return run('qemu-img', ['commit', ...words], { cwd: images.dir });
}

for (const [what, base, line, other] of [...OVERLAPS, RAW]) {
  test.each(PAIRS)(`${what}: %s, then %s`, { timeout: 60_000 }, async (first, then) => {
    template ??= build();
    const images = (await template).copy();
    const words = line.split(' ');
    const program = first === 'ours' ? OURS : THEIRS;
    const force = first === 'ours' ? ['--force'] : [];
    const { pid, stop } = await slowCommit(images, program, base, [...force, ...words]);
    const refused = await second(then, images, other.split(' '));
    expect(refused.stderr).toMatch(/Failed to get .*lock\nIs another process using the image/);
    expect(refused.code).toBe(1);
    if (then === 'ours') expect(refused.stderr).toContain(`(process ${pid})`);
    await stop();
    // Its base has been written to, half-way: nobody's view but those of siblings has changed.
    const top = words.at(-1) ?? '';
    const view = await (await template).view(top);
    expect((await images.view(top)).equals(view)).toBe(true);
    for (const name of ['base.qcow2', 'mid.qcow2', top]) await checkNotCorrupt(images.path(name));
  });
}

test('started as qemu-img nobody is named', { timeout: 60_000 }, async () => {
  template ??= build();
  const images = (await template).copy();
  await slowCommit(images, OURS, 'mid.qcow2', ['--force', 'one.qcow2']);
  const link = asQemu();
  const mine = await link.run(['commit', 'two.qcow2'], images.dir);
  link.remove();
  expect(mine).toEqual(await run('qemu-img', ['commit', 'two.qcow2'], { cwd: images.dir }));
});
