// Command lines that make no sense: refused before any image is opened for writing.

import { renameSync } from 'node:fs';
import { expect, test } from 'vitest';
import { limited } from '../support/limited.ts';
import { contentOf, expectClearError, expectRefused } from '../support/refusals.ts';
import { stack, THREE } from '../support/stacks.ts';

test.each<[string, RegExp]>([
  ['--relink top.qcow2', /--relink needs a base/],
  ['--relink --top mid.qcow2 -b base.qcow2 top.qcow2', /--relink goes without --top/],
  ['--overlay top.qcow2 top.qcow2', /--overlay needs --top/],
  ['--delete top.qcow2', /--delete needs --top or --relink/],
  ['--delete -d top.qcow2', /--delete needs --top or --relink/],
  ['--delete -b base.qcow2 top.qcow2', /--delete needs --top or --relink/],
  ['--top nope.qcow2 top.qcow2', /Did not find 'nope\.qcow2' in the backing chain of 'top\.qcow2'/],
  ['-b nope.qcow2 top.qcow2', /Did not find 'nope\.qcow2' in the backing chain of 'top\.qcow2'/],
  ['-b top.qcow2 top.qcow2', /Did not find 'top\.qcow2'/],
  ['--top base.qcow2 top.qcow2', /'base\.qcow2' does not have a backing file/],
  ['--top mid.qcow2 -b mid.qcow2 top.qcow2', /Did not find 'mid\.qcow2'/],
  ['--top mid.qcow2 -b top.qcow2 top.qcow2', /Did not find 'top\.qcow2'/],
  ['-b ./sub/base.qcow2 top.qcow2', /Did not find/],
  ['--top mid.qcow2 --overlay nope.qcow2 top.qcow2', /'nope\.qcow2': No such file/],
  ['-f vmdk top.qcow2', /The format 'vmdk' is not supported/],
  ['-f nosuch top.qcow2', /'top\.qcow2': Unknown driver 'nosuch'/],
  ['-f raw top.qcow2', /Image does not have a backing file/],
  ['-t foo top.qcow2', /Invalid cache option: foo/],
  ['--output=xml --dry-run top.qcow2', /--output/],
  ['--object secret top.qcow2', /'id' is missing/],
  ['--object tls-creds-x509,id=a top.qcow2', /Missing 'dir' property value/],
  ['--image-opts driver=qcow2,file.filename=nope.qcow2', /nope\.qcow2/],
  ['--image-opts driver=qcow2,file.filename=top.qcow2,lazy=on', /'lazy'/],
  ['--image-opts -f qcow2 driver=qcow2,file.filename=top.qcow2', /mutually exclusive/],
  ['base.qcow2', /Image does not have a backing file/],
  ['-b base.qcow2 --search nowhere top.qcow2', /'nowhere\/?'/],
  ['-b base.qcow2 --search base.qcow2 top.qcow2', /'base\.qcow2\/?'/],
])('commit %s', async (line, words) => {
  const images = await stack(THREE);
  await expectRefused(images.dir, ['commit', ...line.split(' ')], words);
});

test.each<[string, RegExp]>([
  ['', /^qimg-ts: Expecting one image file name\nTry /],
  ['top.qcow2 mid.qcow2', /^qimg-ts: Expecting one image file name\nTry /],
  ['--nosuch top.qcow2', /^qimg-ts: unrecognized option '--nosuch'\nTry /],
  ['-Z top.qcow2', /^qimg-ts: .*option.*Z.*\nTry /],
  ['top.qcow2 -b', /^qimg-ts: .*missing argument.*-b.*\nTry /],
  ['top.qcow2 --overlay', /^qimg-ts: .*missing argument.*--overlay.*\nTry /],
  ['--relink=yes top.qcow2', /^qimg-ts: .*relink.*\nTry /],
])('wrong usage, with a word on where help is: commit %s', async (line, words) => {
  const images = await stack(THREE);
  await expectRefused(images.dir, ['commit', ...line.split(' ').filter(Boolean)], words);
});

test.each(['abc', '-5', '1.5.5', '10X', '', ' '])('commit -r %j', async (rate) => {
  const images = await stack(THREE);
  const before = contentOf(images.dir);
  const outcome = await limited(['commit', '-r', rate, 'top.qcow2'], images.dir);
  expect(outcome.code, outcome.stdout).toBe(1);
  const [first, second] = outcome.stderr.split('\n');
  expect(first).toMatch(/^qimg-ts: Invalid rate limit specified/);
  expect(second).toMatch(/^qimg-ts: kilobytes/);
  expect(contentOf(images.dir)).toEqual(before);
});

test('commit -r with more than a file can have', async () => {
  const images = await stack(THREE);
  const words = 'Invalid rate limit specified. Must be between 0 and 9223372036854775807.';
  await expectRefused(images.dir, ['commit', '-r', '9999999999E', 'top.qcow2'], words);
});

test('an empty file name', async () => {
  const images = await stack(THREE);
  const outcome = await expectRefused(images.dir, ['commit', ''], /Could not open ''/);
  expectClearError(outcome);
});

test('an option after the name, and after --, a name that looks like an option', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  renameSync(images.path('top.qcow2'), images.path('-d'));
  await expectRefused(images.dir, ['commit', '--', '-x'], /Could not open '-x'/);
  const { code, stdout } = await limited(['commit', '--', '-d'], images.dir);
  expect([code, stdout]).toEqual([0, 'Image committed.\n']);
});
