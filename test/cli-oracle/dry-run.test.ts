// --dry-run: says what the commit would do, and does nothing.

import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { infoOf } from '../support/qemu.ts';
import { committed, contentOf } from '../support/refusals.ts';
import { FIVE, forgetBackingFormat, stack } from '../support/stacks.ts';

interface Plan {
  readonly top: string;
  readonly base: string;
  readonly 'base-format': string;
  readonly merged: readonly string[];
  readonly 'copy-bytes': number;
  readonly 'zero-bytes': number;
  readonly 'growth-bytes': number;
  readonly 'base-size': number;
  readonly 'new-base-size': number;
  readonly 'rebuilds-refcounts': boolean;
  readonly empties: string | null;
  readonly relinks: readonly { readonly overlay: string; readonly 'backing-file': string }[];
  readonly invalidates: readonly string[];
  readonly deletes: readonly string[];
  readonly siblings: readonly string[];
  readonly 'sibling-copies': readonly unknown[];
  readonly unread: readonly string[];
  readonly refusals: readonly string[];
}

async function planned(
  images: Images,
  form: readonly string[],
): Promise<{ readonly plan: Plan; readonly code: number; readonly text: string }> {
  const before = contentOf(images.dir);
  const json = await limited(['commit', '--dry-run', '--output=json', ...form], images.dir);
  const human = await limited(['commit', '--dry-run', ...form], images.dir);
  expect(contentOf(images.dir)).toEqual(before);
  expect([json.stderr, human.stderr]).toEqual(['', '']);
  expect(human.code).toBe(json.code);
  expect(human.stdout).toMatch(/\nNothing was written\.\n$/);
  return { plan: JSON.parse(json.stdout) as Plan, code: json.code, text: human.stdout };
}

/** Zeros and data that partly hide one another, and an overlay beside sn4. */
async function chain(): Promise<Images> {
  const images = await stack(FIVE);
  await images.io('sn2.qcow2', 'write -z 5M 300k');
  await images.io('sn3.qcow2', 'write -P 77 5200k 20k', 'write -z 6M 1M');
  await images.create('o1.qcow2', '8M', { backing: 'sn3.qcow2' });
  return images;
}

const FORMS: readonly (readonly [string, Partial<Plan>])[] = [
  ['sn4.qcow2', { top: 'sn4.qcow2', base: 'sn3.qcow2', empties: 'sn4.qcow2', relinks: [] }],
  ['-d sn4.qcow2', { base: 'sn3.qcow2', empties: null, invalidates: [] }],
  [
    '-b base.qcow2 sn4.qcow2',
    { base: 'base.qcow2', empties: null, invalidates: ['sn3.qcow2', 'sn2.qcow2', 'sn1.qcow2'] },
  ],
  [
    '-b sn1.qcow2 --relink --delete sn4.qcow2',
    {
      relinks: [{ overlay: 'sn4.qcow2', 'backing-file': 'sn1.qcow2' }],
      deletes: ['sn3.qcow2', 'sn2.qcow2'],
    },
  ],
  [
    '--top sn3.qcow2 -b sn1.qcow2 --overlay o1.qcow2 sn4.qcow2',
    {
      top: 'sn3.qcow2',
      merged: ['sn3.qcow2', 'sn2.qcow2'],
      relinks: [
        { overlay: 'o1.qcow2', 'backing-file': 'sn1.qcow2' },
        { overlay: 'sn4.qcow2', 'backing-file': 'sn1.qcow2' },
      ],
      deletes: [],
      siblings: [],
      'sibling-copies': [],
      unread: [],
    },
  ],
];

test.each(FORMS)(
  'commit %s: writes nothing, and the real one does what was said',
  async (line, expected) => {
    const images = await chain();
    if (!line.includes('o1.qcow2')) rmSync(images.path('o1.qcow2'));
    const form = line.split(' ');
    const { plan, code, text } = await planned(images, form);
    expect(plan).toMatchObject({ ...expected, refusals: [], 'rebuilds-refcounts': false });
    expect(code).toBe(0);
    expect(text).toMatch(/^merge: .*\nranges: \d+\ncopy: .*\nzero: .*\nspace needed at most: /);

    const before = contentOf(images.dir);
    const used = statSync(images.path(plan.base)).blocks * 512;
    const progress = await committed(images.dir, '-p', ...form);
    expect(progress.stdout).toContain('(100.00/100%)');
    const after = contentOf(images.dir);

    const grown = statSync(images.path(plan.base)).blocks * 512 - used;
    expect(grown, 'no more than was said').toBeLessThanOrEqual(plan['growth-bytes']);
    const info = await infoOf(images.path(plan.base));
    expect(info['virtual-size']).toBe(plan['new-base-size']);
    for (const { overlay, 'backing-file': name } of plan.relinks) {
      expect((await infoOf(images.path(overlay)))['backing-filename']).toBe(name);
    }
    for (const name of plan.deletes) expect(existsSync(images.path(name))).toBe(false);
    const touched = [plan.base, ...plan.relinks.map(({ overlay }) => overlay), ...plan.deletes];
    if (plan.empties !== null) touched.push(plan.empties);
    const changed = Object.keys(before).filter((name) => after[name] !== before[name]);
    expect(changed.sort()).toEqual(touched.sort());
  },
);

test('bytes to copy and to zero are those that the layers above base allocate', async () => {
  const images = await chain();
  rmSync(images.path('o1.qcow2'));
  const { plan } = await planned(images, ['-b', 'base.qcow2', 'sn4.qcow2']);
  const map = (await images.map('sn4.qcow2')).filter(({ depth, present }) => depth < 4 && present);
  const sum = (zero: boolean) =>
    map.filter((each) => each.zero === zero).reduce((total, { length }) => total + length, 0);
  expect(plan['copy-bytes']).toBe(sum(false));
  expect(plan['zero-bytes']).toBe(sum(true));
});

test('a base that grows: both sizes', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  await images.qemuImg('resize', '-q', 'top.qcow2', '11M');
  const { plan, text } = await planned(images, ['top.qcow2']);
  expect([plan['base-size'], plan['new-base-size']]).toEqual([8 * 1024 ** 2, 11 * 1024 ** 2]);
  expect(text).toContain('base grows: from 8388608 to 11534336 bytes');
  await committed(images.dir, 'top.qcow2');
  expect(await images.size('base.qcow2')).toBe(plan['new-base-size']);
});

test('what would be refused is listed, all of it, with exit code 1', async () => {
  const images = await stack(['base.qcow2', 'mid.qcow2', 'top.qcow2']);
  await images.create('sibling.qcow2', '8M', { backing: 'mid.qcow2' });
  forgetBackingFormat(images.path('top.qcow2'));
  const bytes = readFileSync(images.path('mid.qcow2'));
  bytes[79] = 2;
  writeFileSync(images.path('mid.qcow2'), bytes);
  const { plan, code, text } = await planned(images, ['top.qcow2']);
  expect(code).toBe(1);
  expect(plan.refusals).toEqual([
    expect.stringMatching(/does not store the format.*\n.*rebase -u -F qcow2/),
    expect.stringMatching(/mid\.qcow2.*corrupt/),
    expect.stringMatching(/Other images depend on.*'sibling\.qcow2'/),
  ]);
  expect(plan.siblings).toEqual(['sibling.qcow2']);
  expect(text.match(/^refused: /gm)).toHaveLength(3);
  // And the real one is refused for the first of them.
  const real = await limited(['commit', 'top.qcow2'], images.dir);
  expect(real.code).toBe(1);
  expect(plan.refusals[0]).toBe(real.stderr.replace(/^qimg-ts: /, '').trimEnd());
});

test('--force takes siblings off the refusals, not off the list', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2']);
  await images.create('sibling.qcow2', '8M', { backing: 'base.qcow2' });
  const { plan, code } = await planned(images, ['--force', 'top.qcow2']);
  expect([code, plan.refusals, plan.siblings]).toEqual([0, [], ['sibling.qcow2']]);
});

test('a dirty base is left dirty', async () => {
  const images = await stack(['base.qcow2', 'top.qcow2'], { options: 'lazy_refcounts=on' });
  await images.io('base.qcow2', 'write -P 5 6M 1M', 'flush', 'abort').catch(() => undefined);
  const { plan, code, text } = await planned(images, ['top.qcow2']);
  expect([code, plan['rebuilds-refcounts']]).toEqual([0, true]);
  expect(text).toMatch(/^refcounts of base\.qcow2: rebuilt first/m);
});
