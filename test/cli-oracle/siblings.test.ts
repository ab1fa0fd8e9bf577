// Other images that stand on base, or on a layer between: their view would change.

import { mkdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import type { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { committed, expectRefused } from '../support/refusals.ts';
import { FIVE, stack } from '../support/stacks.ts';

async function withSiblings(...over: readonly (readonly [string, string])[]): Promise<Images> {
  const images = await stack(FIVE);
  for (const [name, backing] of over) {
    await images.create(name, '8M', { backing });
    await images.io(name, 'write -P 90 7M 64k');
  }
  return images;
}

test('all of them are listed, those that stand on a sibling too', async () => {
  const images = await withSiblings(
    ['on-base.qcow2', 'base.qcow2'],
    ['on-sn2.qcow2', 'sn2.qcow2'],
    ['on-sibling.qcow2', 'on-base.qcow2'],
  );
  const args = ['commit', '-b', 'base.qcow2', 'sn4.qcow2'];
  const { stderr } = await expectRefused(images.dir, args, /Other images depend on 'base\.qcow2'/);
  expect(stderr).toContain("'on-base.qcow2', 'on-sibling.qcow2', 'on-sn2.qcow2'");
  expect(stderr).toContain('--force');
});

test.each([
  ['sn4.qcow2', ['on-base.qcow2']],
  ['-b base.qcow2 --relink sn4.qcow2', ['on-sn3.qcow2']],
  ['--top sn3.qcow2 -b sn2.qcow2 sn4.qcow2', ['on-sn2.qcow2']],
  ['--top sn3.qcow2 -b sn1.qcow2 sn4.qcow2', ['on-sn2.qcow2']],
] as const)('commit %s: who would see other data', async (line, expected) => {
  const images = await withSiblings(
    ['on-base.qcow2', 'base.qcow2'],
    ['on-sn2.qcow2', 'sn2.qcow2'],
    ['on-sn3.qcow2', 'sn3.qcow2'],
    ['on-top.qcow2', 'sn4.qcow2'],
  );
  const args = ['commit', '--dry-run', '--output=json', ...line.split(' ')];
  const { code, stdout } = await limited(args, images.dir);
  const { siblings } = JSON.parse(stdout) as { readonly siblings: readonly string[] };
  // The real commit changes the views of exactly those: judged by QEMU on a copy.
  const changed: string[] = [];
  const names = ['on-base.qcow2', 'on-sn2.qcow2', 'on-sn3.qcow2', 'on-top.qcow2'];
  const before = await Promise.all(names.map((name) => viewOrNothing(images.copy(), name)));
  await committed(images.dir, '--force', ...line.split(' '));
  for (const [i, name] of names.entries()) {
    if (!(await viewOrNothing(images, name)).equals(before[i] ?? Buffer.alloc(0))) {
      changed.push(name);
    }
  }
  expect(siblings, 'nobody is forgotten').toEqual(expect.arrayContaining(changed));
  expect(siblings).not.toContain('on-top.qcow2');
  expect(code).toBe(siblings.length > 0 ? 1 : 0);
  expect(changed.length > 0 || expected.length > 0).toBe(true);
});

/** Nothing where a file of the chain is gone. */
const viewOrNothing = (images: Images, name: string): Promise<Buffer> =>
  images.view(name).catch(() => Buffer.alloc(0));

test('what stands on the top is no sibling: its view stays', async () => {
  const images = await withSiblings(['above.qcow2', 'sn4.qcow2'], ['higher.qcow2', 'above.qcow2']);
  const view = await images.view('higher.qcow2');
  await committed(images.dir, 'sn4.qcow2');
  expect((await images.view('higher.qcow2')).equals(view)).toBe(true);
  await committed(images.dir, '-b', 'base.qcow2', '--relink', '--delete', 'sn4.qcow2');
  expect((await images.view('higher.qcow2')).equals(view)).toBe(true);
});

test('--force commits and warns of each', async () => {
  const images = await withSiblings(['one.qcow2', 'sn3.qcow2'], ['two.qcow2', 'sn3.qcow2']);
  const view = await images.view('sn4.qcow2');
  const { stderr } = await committed(images.dir, '--force', 'sn4.qcow2');
  expect(stderr).toBe(
    "qimg-ts: warning: 'one.qcow2' will see other data from now on\n" +
      "qimg-ts: warning: 'two.qcow2' will see other data from now on\n",
  );
  expect((await images.view('sn3.qcow2')).equals(view)).toBe(true);
  expect((await images.view('sn4.qcow2')).equals(view)).toBe(true);
});

test('--search finds them elsewhere, with and without the slash', async () => {
  for (const dir of ['else where', 'else where/']) {
    const images = await withSiblings();
    mkdirSync(images.path('else where'));
    await images.create('else where/far.qcow2', '8M', { backing: images.path('sn3.qcow2') });
    const args = ['commit', '--search', dir, 'sn4.qcow2'];
    await expectRefused(images.dir, args, /else where\/far\.qcow2/);
    await committed(images.dir, 'sn4.qcow2');
  }
});

test('each directory of the chain is searched', async () => {
  const images = await withSiblings();
  mkdirSync(images.path('tops'));
  await images.create('tops/top.qcow2', '8M', { backing: '../sn4.qcow2' });
  await images.create('tops/twin.qcow2', '8M', { backing: '../sn4.qcow2' });
  await images.io('tops/top.qcow2', 'write -P 7 0 64k');
  await expectRefused(images.dir, ['commit', 'tops/top.qcow2'], /'tops\/twin\.qcow2'/);
});

test('as qemu-img they are no reason to refuse, with QIMG_STRICT=1 they are', async () => {
  const images = await withSiblings(['one.qcow2', 'sn3.qcow2']);
  const link = asQemu();
  const relaxed = await link.run(['commit', 'sn4.qcow2'], images.copy().dir);
  expect(relaxed).toEqual({ code: 0, stdout: 'Image committed.\n', stderr: '' });
  process.env['QIMG_STRICT'] = '1';
  try {
    const strict = await link.run(['commit', 'sn4.qcow2'], images.dir);
    expect(strict.code).toBe(1);
    expect(strict.stderr).toMatch(/^qemu-img: Other images depend on .*'one\.qcow2'/);
  } finally {
    delete process.env['QIMG_STRICT'];
    link.remove();
  }
});
