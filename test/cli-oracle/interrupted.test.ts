// A commit that is told to stop, or asked how far it is.

import { statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { type Running, start } from '../support/limited.ts';
import { checkClean, compare } from '../support/qemu.ts';
import { committed, contentOf } from '../support/refusals.ts';

/** At 1 MiB a second this takes 6 seconds: long enough to be stopped in the middle. */
async function chain(): Promise<Images> {
  const images = new Images();
  await images.create('base.qcow2', '8M');
  await images.io('base.qcow2', 'write -P 1 0 2M');
  await images.create('mid.qcow2', '8M', { backing: 'base.qcow2' });
  await images.io('mid.qcow2', 'write -P 2 1M 3M');
  await images.create('top.qcow2', '8M', { backing: 'mid.qcow2' });
  await images.io('top.qcow2', 'write -P 3 3M 3M');
  await images.qemuImg('convert', '-O', 'raw', 'top.qcow2', 'before.raw');
  return images;
}

const SLOWLY = ['-r', '1M'];
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves once the first progress is out: the signal handlers are there, the copy has begun. */
function copying({ child }: Running): Promise<void> {
  return new Promise((resolve) => child.stdout?.once('data', () => resolve()));
}

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('%s: stops soon, exit %i, nothing lost, a rerun completes', async (signal, code) => {
  const images = await chain();
  const form = ['-b', 'base.qcow2', '--relink', '--delete'];
  const running = start(['commit', '-p', ...SLOWLY, ...form, 'top.qcow2'], images.dir);
  await copying(running);
  await sleep(700);
  const asked = Date.now();
  running.child.kill(signal);
  const ended = await running.ended;
  expect(Date.now() - asked).toBeLessThan(3000);
  expect(ended.code).toBe(code);
  expect(ended.stderr).toBe(
    `qimg-ts: Stopped by ${signal}. 'base.qcow2' is consistent, the view through 'top.qcow2' is ` +
      'unchanged; running the same command again continues.\n',
  );
  expect(ended.stdout).not.toContain('Image committed.');
  for (const name of ['base.qcow2', 'mid.qcow2', 'top.qcow2']) await checkClean(images.path(name));
  const raw = images.path('before.raw');
  await compare(images.path('top.qcow2'), 'qcow2', raw, 'raw');
  await committed(images.dir, ...form, 'top.qcow2');
  for (const name of ['base.qcow2', 'top.qcow2']) {
    await checkClean(images.path(name));
    await compare(images.path(name), 'qcow2', raw, 'raw');
  }
});

test('the default form: a top whose commit was stopped is not emptied', async () => {
  const images = await chain();
  const before = contentOf(images.dir)['top.qcow2'];
  const running = start(['commit', '-p', ...SLOWLY, 'top.qcow2'], images.dir);
  await copying(running);
  running.child.kill('SIGINT');
  running.child.kill('SIGINT');
  expect((await running.ended).code).toBe(130);
  expect(contentOf(images.dir)['top.qcow2']).toBe(before);
  await committed(images.dir, 'top.qcow2');
  await compare(images.path('mid.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
});

test('a wait for the rate that would take an hour ends at once', async () => {
  const images = await chain();
  const running = start(['commit', '-p', '-r', '1k', 'top.qcow2'], images.dir);
  await copying(running);
  await sleep(300);
  const asked = Date.now();
  running.child.kill('SIGTERM');
  expect((await running.ended).code).toBe(143);
  expect(Date.now() - asked).toBeLessThan(3000);
  await checkClean(images.path('mid.qcow2'));
});

test('SIGUSR1 prints one line of progress, and the commit goes on', async () => {
  const images = await chain();
  const before = statSync(images.path('base.qcow2')).mtimeMs;
  const running = start(['commit', '-r', '2M', '-b', 'base.qcow2', 'top.qcow2'], images.dir);
  // Only once the copy has begun does the process listen to this signal.
  while (statSync(images.path('base.qcow2')).mtimeMs === before) await sleep(20);
  running.child.kill('SIGUSR1');
  const { code, stdout, stderr } = await running.ended;
  expect([code, stdout]).toEqual([0, 'Image committed.\n']);
  const lines = stderr.split('\n').filter((line) => /^ {4}\(\d+\.\d\d\/100%\)\r?$/.test(line));
  expect(lines, stderr).toHaveLength(1);
  await compare(images.path('base.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
});

test('an output that nobody reads any more does not stop a commit half-way', async () => {
  const images = await chain();
  const running = start(['commit', '-p', '-r', '8M', 'top.qcow2'], images.dir);
  running.child.stdout?.destroy();
  const { code } = await running.ended;
  expect(code).toBe(0);
  await compare(images.path('mid.qcow2'), 'qcow2', images.path('before.raw'), 'raw');
});
