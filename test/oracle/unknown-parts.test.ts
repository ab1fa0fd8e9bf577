// Headers with parts that nobody here knows: refused by name where they must be understood, else kept
// through everything that changes an image, but for the bits that are to be cleared; as QEMU does.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { encodeFeatureNames } from '../../src/qcow2/extensions.ts';
import { writeField } from '../../src/qcow2/fields.ts';
import { encodeHeader, type Header, parseHeader } from '../../src/qcow2/header.ts';
import { EXTENSION, FEATURE_NAMES, HEADER } from '../../src/qcow2/spec.ts';
import { sideBySide } from '../support/as-qemu.ts';
import { qimg } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { checkClean, mustIn } from '../support/qemu.ts';

const UNKNOWN = 0x1234_5678;
/** Bytes of the header that come with a later version of the format. */
const LATER = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

function headerOf(file: string): Header {
  return parseHeader(readFileSync(file));
}

/** A later version's header: a longer one, with an extension and feature bits that we don't know. */
function makeLater(file: string): void {
  const bytes = readFileSync(file);
  const header = parseHeader(bytes);
  const isNew = header.version === 3;
  const changed = encodeHeader({
    ...header,
    headerLength: isNew ? header.headerLength + 8 : header.headerLength,
    compatibleFeatures: header.compatibleFeatures | (1n << 40n),
    autoclearFeatures: header.autoclearFeatures | (1n << 41n),
    extensions: [
      ...header.extensions,
      { type: UNKNOWN, data: Uint8Array.of(9, 9, 9) },
      { type: UNKNOWN + 1, data: new Uint8Array() },
    ],
  });
  bytes.set(changed);
  if (isNew) bytes.set(LATER, header.headerLength);
  writeFileSync(file, bytes);
}

/** What of it there is. */
function laterParts(file: string): object {
  const bytes = readFileSync(file);
  const { version, extensions, compatibleFeatures, autoclearFeatures, headerLength } =
    parseHeader(bytes);
  return {
    headerLength,
    // QEMU turns their order round each time.
    unknown: extensions
      .filter(({ type }) => type === UNKNOWN || type === UNKNOWN + 1)
      .sort((a, b) => a.type - b.type),
    names: extensions.find(({ type }) => type === EXTENSION.featureNameTable)?.data,
    later: version === 3 && [...bytes.subarray(headerLength - LATER.length, headerLength)],
    compatible: version === 3 && (compatibleFeatures >> 40n) & 1n,
    autoclear: version === 3 && (autoclearFeatures >> 41n) & 1n,
  };
}

const SHAPES = [
  'compat=0.10',
  'compat=1.1',
  'compat=1.1,cluster_size=4096',
  'compat=1.1,lazy_refcounts=on,refcount_bits=8',
];

describe.each(SHAPES)('%s', (options) => {
  async function chain(): Promise<Images> {
    const images = new Images();
    await images.create('below.qcow2', '2M', { options });
    await images.create('base.qcow2', '2M', { options, backing: 'below.qcow2' });
    await images.create('top.qcow2', '2M', { options, backing: 'base.qcow2' });
    await images.io('base.qcow2', 'write -P 1 0 1M');
    await images.qemuImg('snapshot', '-c', 'a', 'base.qcow2');
    await images.io('top.qcow2', 'write -P 2 512k 1M');
    for (const name of ['base.qcow2', 'top.qcow2']) makeLater(images.path(name));
    return images;
  }

  test.each([
    ['base.qcow2', 'commit', 'top.qcow2'],
    ['top.qcow2', 'commit', 'top.qcow2'],
    ['base.qcow2', 'snapshot', '-c', 'b', 'base.qcow2'],
    ['base.qcow2', 'snapshot', '-a', 'a', 'base.qcow2'],
    ['base.qcow2', 'snapshot', '-d', 'a', 'base.qcow2'],
  ])('in %s after %s %s %s %s', async (name, ...args) => {
    const images = await chain();
    const words = args.filter((word) => word !== undefined);
    const before = laterParts(images.path(name));
    const rival = images.copy();
    await mustIn(rival.dir, 'qemu-img', ...words);
    const outcome = await qimg(words, images.dir);
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    const after = laterParts(images.path(name));
    expect(after).toEqual({ ...before, autoclear: options === 'compat=0.10' ? false : 0n });
    // QEMU puts its own table of names there, and clears no bits of a base, which it opens for
    // reading first.
    const theirs = { ...laterParts(rival.path(name)), names: 0 };
    const bits = name === 'base.qcow2' && args[0] === 'commit' && { autoclear: 0 };
    expect({ ...theirs, ...bits }).toEqual({ ...after, names: 0, ...bits });
    await checkClean(images.path(name));
    expect((await images.view(name)).equals(await rival.view(name))).toBe(true);
  });

  test('in a top that is relinked', async () => {
    const images = await chain();
    const before = laterParts(images.path('top.qcow2'));
    const view = await images.view('top.qcow2');
    const args = ['commit', '--relink', '-b', 'below.qcow2', 'top.qcow2'];
    expect(await qimg(args, images.dir)).toMatchObject({ code: 0 });
    expect(headerOf(images.path('top.qcow2')).backingFile).toBe('below.qcow2');
    const autoclear = options === 'compat=0.10' ? false : 0n;
    expect(laterParts(images.path('top.qcow2'))).toEqual({ ...before, autoclear });
    expect((await images.view('top.qcow2')).equals(view)).toBe(true);
    await checkClean(images.path('top.qcow2'));
  });
});

/** Incompatible bits that are not known, with names in the table for some of them. */
const REFUSED = {
  'bare.qcow2': { bits: 1n << 20n, names: [] },
  'last.qcow2': { bits: 1n << 63n, names: [] },
  'named.qcow2': { bits: 1n << 20n, names: [{ type: 0, bit: 20, name: 'time travel' }] },
  'mixed.qcow2': {
    bits: (1n << 20n) | (1n << 21n) | (1n << 50n),
    names: [
      { type: 0, bit: 50, name: 'a name of forty-six bytes, the most that fits..' },
      { type: 1, bit: 20, name: 'compatible' },
      { type: 0, bit: 21, name: 'weather' },
      { type: 2, bit: 21, name: 'autoclear' },
    ],
  },
  'known.qcow2': { bits: (1n << 20n) | 3n, names: [] },
} as const;

const { testLines } = sideBySide(async (dir) => {
  for (const [name, { bits, names }] of Object.entries(REFUSED)) {
    await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', name, '1M');
    const file = join(dir, name);
    const bytes = readFileSync(file);
    const header = parseHeader(bytes);
    const data = encodeFeatureNames([...FEATURE_NAMES, ...names]);
    const extensions = [{ type: EXTENSION.featureNameTable, data }];
    bytes.set(encodeHeader({ ...header, extensions }));
    writeField(bytes, HEADER.incompatibleFeatures, bits);
    writeFileSync(file, bytes);
    const over = ['-f', 'qcow2', '-u', '-b', name, '-F', 'qcow2', `over-${name}`, '1M'];
    await mustIn(dir, 'qemu-img', 'create', '-q', ...over);
  }
});

testLines(`
info bare.qcow2
info last.qcow2
info named.qcow2
info mixed.qcow2
info known.qcow2
check named.qcow2
map mixed.qcow2
compare named.qcow2 named.qcow2
commit named.qcow2
commit over-named.qcow2
commit over-mixed.qcow2
info --backing-chain over-bare.qcow2
snapshot -l named.qcow2
snapshot -c x mixed.qcow2
`);
