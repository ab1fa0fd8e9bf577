// What the header of an image may make the command open: files of this machine, as far as the user
// trusts the image. Under QEMU's name everything goes, as there.

import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { asQemu, qimg } from '../support/cli.ts';
import { mustIn } from '../support/qemu.ts';
import { contentOf } from '../support/refusals.ts';
import { makeTemp } from '../support/temp.ts';

const { dir, cleanup } = makeTemp();
const DESCRIBED = 'json:{"driver": "raw", "file": {"driver": "file", "filename": "in/plain"}}';

beforeAll(async () => {
  const create = (...args: readonly string[]) => mustIn(dir, 'qemu-img', 'create', '-q', ...args);
  await mustIn(dir, 'mkdir', 'in', 'out');
  await create('-f', 'raw', 'in/plain', '1M');
  await create('-f', 'raw', 'out/base', '1M');
  symlinkSync('../out/base', `${dir}/in/link`);
  const over = (name: string, base: string, ...more: readonly string[]) =>
    create('-f', 'qcow2', '-u', '-b', base, '-F', 'raw', ...more, `in/${name}`, '1M');
  await over('sound', 'plain');
  await over('outside', '../out/base');
  await over('linked', 'link');
  await over('described', DESCRIBED);
  await over('device', '/dev/zero');
  // A name of the same length, so that it can be written over.
  await create('-f', 'qcow2', '-o', 'data_file=in/dat-aa', 'in/with-data', '1M');
  const image = readFileSync(`${dir}/in/with-data`, 'latin1');
  writeFileSync(`${dir}/in/with-data`, image.replace('in/dat-aa', '/dev/zero'), 'latin1');
  return cleanup;
});

const OPENING = [
  ['map'],
  ['compare', 'in/plain'],
  ['info', '--backing-chain'],
  ['commit'],
  ['commit', '--dry-run'],
  ['snapshot', '-c', 'now'],
] as const;

const REFUSED = [
  ['outside', /is outside of the trusted directories/],
  ['linked', /is outside of the trusted directories\nIt is '.*out\/base'; trusted: 'in'/],
  ['described', /which is no plain file name\n.*--allow-protocols/],
  ['device', /'\/dev\/zero' is neither a regular file nor a block device/],
] as const;

describe('an image that names', () => {
  test.each(REFUSED)('%s is not followed, nor written', async (name, words) => {
    const before = contentOf(`${dir}/in`);
    for (const verb of OPENING) {
      const { code, stderr } = await qimg([...verb, '--trust', 'in', `in/${name}`], dir);
      expect({ verb, refused: code !== 0, stderr }).toEqual({
        verb,
        refused: true,
        stderr: expect.stringMatching(words),
      });
    }
    const { code, stdout } = await qimg(['chain', '--trust', 'in', `in/${name}`], dir);
    expect([code, stdout]).toEqual([1, expect.stringContaining('not open')]);
    expect(contentOf(`${dir}/in`)).toEqual(before);
  });

  test('a device as its data file is not followed', async () => {
    const { code, stderr } = await qimg(['map', 'in/with-data'], dir);
    expect([code, stderr]).toEqual([1, expect.stringContaining('neither a regular file nor')]);
  });

  test('what lies in the directories is followed', async () => {
    for (const verb of [['map'], ['check'], ['chain']]) {
      const { code, stderr } = await qimg([...verb, '--trust', 'in', 'in/sound'], dir);
      expect([verb, code, stderr]).toEqual([verb, 0, '']);
    }
    const args = ['map', '--trust', 'in', '--trust', 'out', 'in/outside'];
    expect((await qimg(args, dir)).code).toBe(0);
  });
});

test('a new image does not look through a backing file that leads elsewhere', async () => {
  const over = (name: string, ...flags: string[]) =>
    qimg(['create', '-q', '-f', 'qcow2', '-b', name, '-F', 'qcow2', ...flags, 'in/new'], dir);
  const words = /outside of the trusted|is no plain file name|neither a regular file nor/;
  for (const [name] of REFUSED) {
    const { code, stderr } = await over(name, '--trust', 'in');
    expect([name, code, stderr]).toEqual([name, 1, expect.stringMatching(words)]);
    expect(stderr).toContain('\nCould not open backing image.\n');
  }
  const { stderr: advice } = await over('linked', '--trust', 'in');
  expect(advice).toMatch(/\nIt is '.*out\/base'; trusted: 'in'\.\n$/);
  expect(contentOf(`${dir}/in`)).not.toHaveProperty('new');
  const outside = await qimg(['create', '-q', '--trust', 'in', 'out/new', '1M'], dir);
  expect([outside.code, outside.stderr]).toEqual([1, expect.stringContaining('outside of the')]);
  expect((await over('sound', '--trust', 'in')).code).toBe(0);
});

test('the image that is named has to lie there itself', async () => {
  const { code, stderr } = await qimg(['info', '--trust', 'in', 'out/base'], dir);
  expect([code, stderr]).toEqual([1, expect.stringContaining('outside of the trusted')]);
});

test('a description in a header is followed where it is allowed', async () => {
  const { code } = await qimg(['map', '--allow-protocols', 'in/described'], dir);
  expect(code).toBe(0);
  const confined = ['map', '--allow-protocols', '--trust', 'out', 'in/described'];
  expect((await qimg(confined, dir)).code).toBe(1);
});

test("a description that the user gives is the user's", async () => {
  expect((await qimg(['info', DESCRIBED], dir)).code).toBe(0);
});

test('under the name of qemu-img, all is followed and the options are not there', async () => {
  const ours = asQemu();
  try {
    expect((await ours.run(['map', 'in/described'], dir)).code).toBe(0);
    const { code, stderr } = await ours.run(['map', '--trust', 'in', 'in/sound'], dir);
    expect([code, stderr]).toEqual([1, expect.stringContaining("unrecognized option '--trust'")]);
  } finally {
    ours.remove();
  }
});

describe('a daemon that opens an image that names', () => {
  const drive = (name: string) => ['--drive', `file=in/${name},format=qcow2,id=d`];
  const options = (name: string) =>
    `driver=qcow2,node-name=n,file.driver=file,file.filename=in/${name}`;

  test.each(REFUSED)('%s does not follow it', async (name, words) => {
    const verbs = [
      ['serve', `in/${name}`, '--socket', 'never.sock'],
      ['storage-daemon', ...drive(name)],
      ['storage-daemon', '--blockdev', options(name)],
    ];
    for (const verb of verbs) {
      const { code, stderr } = await qimg([...verb, '--trust', 'in'], dir);
      expect([code, stderr]).toEqual([1, expect.stringMatching(words)]);
    }
  });

  test('what the user names, and what is allowed, is followed', async () => {
    // It ends right behind the opening.
    const stop = ['--chardev', 'nothing,id=c'];
    const other = 'backing.driver=raw,backing.file.driver=file,backing.file.filename=in/plain';
    const opens: readonly (readonly string[])[] = [
      [...drive('sound')],
      [...drive('described'), '--allow-protocols'],
      ['--blockdev', `${options('device')},${other}`],
      ['--blockdev', 'raw,node-name=n,file.driver=file,file.filename=out/base'],
    ];
    for (const args of opens) {
      const { code, stderr } = await qimg(['storage-daemon', ...args, ...stop], dir);
      expect([code, stderr]).toEqual([1, expect.stringMatching(/^qimg-ts: --chardev nothing/)]);
    }
  });
});
