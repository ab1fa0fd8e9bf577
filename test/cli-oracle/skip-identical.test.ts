// --skip-identical in the words of the command, on files.

import { statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { checkClean } from '../support/qemu.ts';
import { committed } from '../support/refusals.ts';

test('a commit that is done again: told by a dry run, by the report, and as JSON', async () => {
  const images = new Images();
  await images.create('base.qcow2', '8M');
  await images.create('top.qcow2', '8M', { backing: 'base.qcow2' });
  await images.io('top.qcow2', 'write -P 7 1M 3M', 'write -z 6M 1M');
  const view = await images.view('top.qcow2');
  await committed(images.dir, '-d', 'top.qcow2');
  await images.io('top.qcow2', 'write -P 8 2M 64k');
  const words = ['commit', '--skip-identical'];

  const dry = await qimg([...words, '--dry-run', 'top.qcow2'], images.dir);
  expect(dry.stdout).toContain(
    'copy: 3 MiB\nzero: 1 MiB\nskip: 3.94 MiB of these, which the base holds already\n' +
      'space needed at most: 0 B\n',
  );
  const { size } = statSync(images.path('base.qcow2'));
  const done = await qimg([...words, 'top.qcow2'], images.dir);
  expect(done).toMatchObject({
    code: 0,
    stdout: 'Image committed.\n',
    stderr: 'qimg-ts: not written again: 3.94 MiB that the base held already\n',
  });
  expect(statSync(images.path('base.qcow2'))).toMatchObject({ size });

  await images.io('top.qcow2', 'write -P 7 2M 64k');
  const json = await qimg([...words, '--output=json', 'top.qcow2'], images.dir);
  const lines = json.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.at(-1)).toMatchObject({ type: 'result', 'identical-bytes': 0 });
  expect((await images.view('base.qcow2')).equals(view)).toBe(true);
  await checkClean(images.path('base.qcow2'));
});
