// Features of later releases: a commit that would need them names them and writes nothing; the
// image can be described and checked all the same.

import { rmSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { run } from '../support/qemu.ts';
import { contentOf, expectRefused } from '../support/refusals.ts';

const SECRET = ['--object', 'secret,id=s,data=abc'];

interface Feature {
  readonly words: RegExp;
  /** How `info --output=json` tells of it. */
  readonly described: RegExp;
  create(): readonly string[];
}

const FEATURES: Readonly<Record<string, Feature>> = {
  'extended L2 entries': {
    words: /extended L2 entries/,
    described: /"extended-l2": true/,
    create: () => ['-o', 'extended_l2=on'],
  },
  LUKS: {
    words: /encryption/,
    described: /"format": "luks"/,
    create: () => [
      ...SECRET,
      '-o',
      'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10',
    ],
  },
  'AES encryption': {
    words: /encryption/,
    described: /"format": "aes"/,
    create: () => [...SECRET, '-o', 'encrypt.format=aes,encrypt.key-secret=s'],
  },
};

/** feature.qcow2, which has the feature, over under.qcow2. */
async function withFeature(feature: Feature): Promise<Images> {
  const images = new Images();
  await images.create('under.qcow2', '1M');
  const backing = ['-u', '-b', 'under.qcow2', '-F', 'qcow2'];
  const args = ['-q', '-f', 'qcow2', ...feature.create(), ...backing];
  await create(images, [...args, 'feature.qcow2', '1M']);
  await images.create('top.qcow2', '1M', { backing: 'feature.qcow2' });
  return images;
}

/** QEMU measures the CPU for the key of LUKS, which now and then is too quick for its clock. */
async function create(images: Images, args: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const { code, stderr } = await run('qemu-img', ['create', ...args], { cwd: images.dir });
    if (code === 0) return;
    if (attempt === 5 || !/CPU usage/.test(stderr)) throw new Error(stderr);
    rmSync(images.path(args.at(-2) ?? ''), { force: true });
  }
}

test.each(Object.entries(FEATURES))(
  '%s: refused by name in every place, described and checked',
  async (_what, feature) => {
    const images = await withFeature(feature);
    const forms = {
      top: ['feature.qcow2'],
      'top, left as it is': ['-d', 'feature.qcow2'],
      between: ['-b', 'under.qcow2', '--relink', 'top.qcow2'],
      base: ['top.qcow2'],
      'base, forced': ['--force', 'top.qcow2'],
      'base, not done': ['--dry-run', 'top.qcow2'],
    };
    for (const form of Object.values(forms)) {
      const { stderr } = await expectRefused(images.dir, ['commit', ...form], feature.words);
      expect(stderr).toContain("'feature.qcow2'");
    }
    const before = contentOf(images.dir);
    const info = await limited(['info', '--output=json', 'feature.qcow2'], images.dir);
    expect(info.code).toBe(0);
    expect(info.stdout).toMatch(feature.described);
    const check = await limited(['check', 'feature.qcow2'], images.dir);
    expect(check.stdout).toMatch(/^No errors were found on the image\./);
    expect(check.code).toBe(0);
    expect(contentOf(images.dir)).toEqual(before);
  },
);
