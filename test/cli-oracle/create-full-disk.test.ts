// A new image for which there is no room: QEMU's words, what to do next, and nothing left behind.

import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { limited } from '../support/limited.ts';
import { smallDisk, whyNoMounts } from '../support/mounts.ts';
import { run } from '../support/qemu.ts';

const reason = whyNoMounts();
const full = reason === undefined ? test : test.skip;
const named = (name: string) => (reason === undefined ? name : `${name} (${reason})`);

full.each([
  ['qcow2', 'falloc'],
  ['qcow2', 'full'],
  ['raw', 'falloc'],
  ['raw', 'full'],
])(named('%s, preallocation=%s'), async (format, preallocation) => {
  const dir = smallDisk(2 * 1024 * 1024);
  const args = ['create', '-q', '-f', format, '-o', `preallocation=${preallocation}`, 'x', '10M'];
  const mine = await limited(args, dir);
  expect(mine.code).toBe(1);
  expect(readdirSync(dir)).toEqual([]);
  const theirs = await run('qemu-img', args, { cwd: dir });
  const hint = 'Make room (df tells how much there is) and run the same command again.\n';
  expect(mine.stderr).toBe(theirs.stderr.replace(/^qemu-img/, 'qimg-ts') + hint);
});
