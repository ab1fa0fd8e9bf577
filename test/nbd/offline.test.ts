// Commands over chains whose base, or any layer, lies behind NBD: what they change is there, and QEMU
// agrees.

import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { asQemu, qimg } from '../support/cli.ts';
import { serveFile } from '../support/nbd.ts';
import { qemuImg, qemuIo, run } from '../support/qemu.ts';
import { nbdkit, qemuNbd } from '../support/qemu-nbd.ts';
import { tempDir } from '../support/temp.ts';

const ours = asQemu();
afterAll(() => ours.remove());

async function expectDone(outcome: Promise<{ code: number; stderr: string }>): Promise<void> {
  const { code, stderr } = await outcome;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
}

describe.each([
  ['qemu-nbd', async (file: string) => (await qemuNbd(file, ['-f', 'raw'])).socket],
  ['nbdkit', async (file: string) => (await nbdkit(['file', `file=${file}`])).socket],
  [
    'our server',
    async (file: string) => (await serveFile(file, { chain: { format: 'raw' } })).socket,
  ],
])('a base behind %s', (_what, serve) => {
  test('is committed into, and rebased away from', async () => {
    const dir = tempDir();
    const [base, top, copy] = ['base.raw', 'top.qcow2', 'copy.qcow2'].map((name) =>
      join(dir, name),
    ) as [string, string, string];
    await qemuImg('create', '-q', '-f', 'raw', base, '10M');
    await qemuIo(base, ['write -P 1 0 5M'], 'raw');
    const uri = `nbd+unix:///?socket=${await serve(base)}`;
    await expectDone(ours.run(['create', '-q', '-f', 'qcow2', '-b', uri, '-F', 'raw', top], dir));
    await qemuIo(top, ['write -P 2 1M 1M', 'write -P 3 4000 700', 'write -z 3M 1M']);
    await qemuImg('convert', '-O', 'qcow2', top, copy);
    await expectDone(ours.run(['commit', '-q', top], dir));
    await qemuImg('compare', '-U', '-f', 'raw', '-F', 'qcow2', base, copy);
    await qemuIo(top, ['write -P 4 6M 1M']);
    await expectDone(ours.run(['rebase', '-b', '', top], dir));
    await qemuIo(top, [
      'read -P 2 1M 1M',
      'read -P 3 4000 700',
      'read -P 0 3M 1M',
      'read -P 4 6M 1M',
    ]);
    expect((await run('qemu-img', ['check', top])).code).toBe(0);
  });
});

test('an image in an export is made, filled, resized, checked and committed into', async () => {
  const dir = tempDir();
  const [room, top] = [join(dir, 'room'), join(dir, 'top.qcow2')];
  await qemuImg('create', '-q', '-f', 'raw', room, '20M');
  const { socket, stop } = await qemuNbd(room, ['-f', 'raw']);
  const uri = `nbd+unix:///?socket=${socket}`;
  await expectDone(ours.run(['create', '-q', '-f', 'qcow2', uri, '10M'], dir));
  await expectDone(ours.run(['resize', '-q', uri, '12M'], dir));
  await expectDone(ours.run(['create', '-q', '-f', 'qcow2', '-b', uri, '-F', 'qcow2', top], dir));
  await qemuIo(top, ['write -P 2 1M 3M', 'write -P 3 11M 1000']);
  await expectDone(ours.run(['commit', '-q', top], dir));
  await expectDone(ours.run(['snapshot', '-c', 'one', uri], dir));
  await stop();
  await qemuIo(room, ['read -P 2 1M 3M', 'read -P 3 11M 1000', 'read -P 0 0 1M']);
  expect((await run('qemu-img', ['check', '-f', 'qcow2', room])).stdout).toContain('No errors');
});

test('an export that is too small is full, and the image stays sound', async () => {
  const dir = tempDir();
  const room = join(dir, 'room');
  await qemuImg('create', '-q', '-f', 'raw', room, '2M');
  const { socket, stop } = await qemuNbd(room, ['-f', 'raw']);
  const uri = `nbd+unix:///?socket=${socket}`;
  const top = join(dir, 'top.qcow2');
  await expectDone(ours.run(['create', '-q', '-f', 'qcow2', uri, '10M'], dir));
  await expectDone(ours.run(['create', '-q', '-f', 'qcow2', '-b', uri, '-F', 'qcow2', top], dir));
  await qemuIo(top, ['write -P 2 0 5M']);
  const { code, stderr } = await ours.run(['commit', '-q', top], dir);
  expect({ code, isFull: stderr.includes('No space left on device') }).toEqual({
    code: 1,
    isFull: true,
  });
  await qemuIo(top, ['read -P 2 0 5M']);
  await stop();
  expect((await run('qemu-img', ['check', '-f', 'qcow2', room])).code % 3).toBe(0);
});

test('headers do not lead there, unless they may', async () => {
  const dir = tempDir();
  const [base, top] = [join(dir, 'base.raw'), join(dir, 'top.qcow2')];
  await qemuImg('create', '-q', '-f', 'raw', base, '1M');
  const { socket } = await qemuNbd(base, ['-f', 'raw']);
  const uri = `nbd+unix:///?socket=${socket}`;
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', uri, '-F', 'raw', top);
  const refused = await qimg(['map', top], dir);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('which is no plain file name');
  expect((await qimg(['map', '--allow-protocols', top], dir)).code).toBe(0);
  expect((await qimg(['map', '-f', 'raw', uri], dir)).code).toBe(0);
});
