// `info --safety`, and names that would steer a terminal.

import { expect, test } from 'vitest';
import { asQemu, qimg } from '../support/cli.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const NASTY = 'a\u{1b}[2J\nimage: b';

async function nastyImage(): Promise<string> {
  const dir = tempDir();
  const create = ['create', '-q', '-f', 'qcow2', '-u', '-b', NASTY, '-F', 'raw', 'top', '1M'];
  await mustIn(dir, 'qemu-img', ...create);
  return dir;
}

test('people read escapes, and what the image could reach', async () => {
  const dir = await nastyImage();
  const { code, stdout, stderr } = await qimg(['info', '--safety', '-f', 'qcow2', 'top'], dir);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).not.toContain('\u{1b}');
  expect(stdout.match(/^image: /gm)).toHaveLength(1);
  const told = stdout.slice(stdout.indexOf('Safety:\n'));
  expect(told).toContain("    backing-file: reads the backing file 'a\\x1b[2J\\nimage: b'\n");
  expect(told).toContain('    control-characters: ');
});

test('an error, a map and a list of snapshots escape names, too', async () => {
  const dir = await nastyImage();
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'alone', '1M');
  await mustIn(dir, 'qemu-img', 'snapshot', '-c', 'x\u{1b}[1m', 'alone');
  for (const args of [
    ['map', 'top'],
    ['snapshot', '-l', 'alone'],
    ['chain', 'top'],
  ]) {
    const { stdout, stderr } = await qimg(args, dir);
    expect(stdout + stderr).not.toContain('\u{1b}');
  }
});

test('programs get members of their own', async () => {
  const dir = await nastyImage();
  const { stdout } = await qimg(['info', '--safety', '--output=json', '-f', 'qcow2', 'top'], dir);
  const { safety } = JSON.parse(stdout) as { safety: readonly { kind: string; about: string }[] };
  expect(safety[0]).toEqual({ kind: 'backing-file', about: `reads the backing file '${NASTY}'` });
});

test('under the name of qemu-img nothing of it is there', async () => {
  const dir = await nastyImage();
  const ours = asQemu();
  try {
    const { code, stderr } = await ours.run(['info', '--safety', 'top'], dir);
    expect([code, stderr]).toEqual([1, expect.stringContaining("unrecognized option '--safety'")]);
    const { stdout } = await ours.run(['info', 'top'], dir);
    expect(stdout).toContain(`backing file: ${NASTY}`);
  } finally {
    ours.remove();
  }
});
