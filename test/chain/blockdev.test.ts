// Descriptions of images as trees, and what openChain makes of them.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseImage } from '../../src/chain/blockdev.ts';
import { parseRules } from '../../src/chain/debug-rules.ts';
import { openChain } from '../../src/chain/open.ts';
import { OptionDict } from '../../src/chain/option-dict.ts';
import { parseImageOpts } from '../../src/cli/image-opts.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import type { JsonValue } from '../../src/json/parser.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { STRUCTURE_KINDS } from '../../src/qcow2/overlap.ts';

const nothing = new OptionDict();

function givesTreeOrError(work: () => unknown): void {
  try {
    expect(work()).toBeTypeOf('object');
  } catch (error) {
    expect(error).toBeInstanceOf(ImageError);
  }
}

const KEYS = 'driver file backing image filename size offset event errno config cache direct 0';
const VALUES =
  'file raw qcow2 null-co blkdebug host_device t.qcow2 on off 1G 64k -1 x none write_aio';
const key = fc
  .array(fc.constantFrom(...KEYS.split(' '), 'inject-error', 'set-state'), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) => parts.join('.'));
const value = fc.constantFrom<JsonValue>(...VALUES.split(' '), 1, true, null, [], {});

test('any options give a tree or an ImageError', () =>
  fc.assert(
    fc.property(fc.dictionary(key, value), fc.option(fc.string()), (options, name) =>
      givesTreeOrError(() => parseImage(name ?? undefined, OptionDict.fromObject(options))),
    ),
  ));

test('any name gives a tree or an ImageError', () =>
  fc.assert(
    fc.property(fc.constantFrom('', 'json:', 'blkdebug:', 'null-co:'), fc.string(), (head, tail) =>
      givesTreeOrError(() => parseImage(head + tail, nothing)),
    ),
  ));

test('any list of options gives a dictionary or an ImageError', () =>
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'abc=,.no ') }), (text) =>
      givesTreeOrError(() => parseImageOpts(text)),
    ),
  ));

test('any file of rules gives rules or an ImageError', () =>
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.string(),
          fc.constantFrom('[inject-error]', '[set-state]', 'event = "write_aio"', 'errno = "5"'),
        ),
      ),
      (lines) => givesTreeOrError(() => parseRules(lines.join('\n'))),
    ),
  ));

test('nested and dotted members mean the same', () => {
  const nested = { driver: 'raw', offset: 512, file: { driver: 'file', filename: 'x' } };
  const dotted = { driver: 'raw', offset: '512', 'file.driver': 'file', 'file.filename': 'x' };
  const tree = (object: { readonly [key: string]: JsonValue }) => {
    const { node } = parseImage(undefined, OptionDict.fromObject(object));
    return { ...node, strong: undefined };
  };
  expect(tree(nested)).toEqual(tree(dotted));
  expect(tree(nested)).toMatchObject({ driver: 'raw', offset: 512, file: { filename: 'x' } });
});

async function hostWithChain(): Promise<MemoryHost> {
  const host = new MemoryHost();
  const create = async (name: string, backingFile?: string) => {
    const storage = await host.createStorage(name);
    const below = backingFile !== undefined && { backingFile, backingFormat: 'qcow2' };
    await createImage(storage, { size: 1024 * 1024, ...below });
  };
  await create('/d/base');
  await create('/d/top', 'base');
  host.addFile('/raw', new Uint8Array(4096).fill(7));
  return host;
}

test('a description opens as its names do, the backing file too', async () => {
  const host = await hostWithChain();
  await using chain = await openChain(
    { driver: 'qcow2', file: { driver: 'file', filename: '/d/top' } },
    { host },
  );
  expect(chain.layers.map(({ filename }) => filename)).toEqual(['/d/top', '/d/base']);
  expect(chain.at(0).name).toBe('/d/top');
});

test('a description can say that there is nothing below, or something else', async () => {
  const host = await hostWithChain();
  const file = { filename: '/d/top' };
  await using alone = await openChain({ driver: 'qcow2', file, backing: null }, { host });
  expect(alone.layers).toHaveLength(1);
  const backing = { driver: 'raw', file: { filename: '/raw' }, offset: 512, size: '1k' } as const;
  await using other = await openChain({ driver: 'qcow2', file, backing }, { host });
  expect(other.at(1)).toMatchObject({ filename: '/raw', formatKnown: true });
  const sector = new Uint8Array(512);
  await other.read(512, sector);
  expect(sector.every((byte) => byte === 7)).toBe(true);
  await other.read(1024, sector);
  expect(sector.every((byte) => byte === 0)).toBe(true);
});

test('rules of a description make its reads fail, with the errno that they name', async () => {
  const host = await hostWithChain();
  const rules = [{ event: 'read_aio', errno: 28, once: true }] as const;
  const image = { filename: '/raw' };
  const file = { driver: 'blkdebug', image, 'inject-error': rules } as const;
  await using chain = await openChain({ driver: 'raw', file }, { host });
  const sector = new Uint8Array(512);
  await expect(chain.read(0, sector)).rejects.toMatchObject({ errno: 'ENOSPC' });
  await chain.read(0, sector);
  expect(sector[0]).toBe(7);
});

test('unknown members are refused by name', async () => {
  const host = await hostWithChain();
  const typo = { driver: 'raw', file: { filename: '/raw', lockin: 'off' } } as never;
  await expect(openChain(typo, { host })).rejects.toThrow(
    "Block protocol 'file' doesn't support the option 'lockin'",
  );
});

test.each<[options: string, without: string | null]>([
  ['', 'inactive-l2'],
  ['overlap-check=cached', 'inactive-l2'],
  ['overlap-check=all', ''],
  ['overlap-check.template=all', ''],
  ['overlap-check=all,overlap-check.inactive-l2=off,overlap-check.main-header=on', 'inactive-l2'],
  ['overlap-check.inactive-l2=on', ''],
  ['overlap-check.active-l1=off,overlap-check.inactive-l2=on', 'active-l1'],
  ['overlap-check=constant', 'active-l2 refcount-block inactive-l1 inactive-l2'],
  ['overlap-check=none', null],
  ['overlap-check=none,overlap-check.template=none', null],
])('structures that are guarded: %s', (options, without) => {
  const given = `driver=qcow2,file.filename=x${options === '' ? '' : ','}${options}`;
  const { node } = parseImage(undefined, parseImageOpts(given).options);
  if (node.driver !== 'qcow2') throw new Error('not qcow2');
  const missing = STRUCTURE_KINDS.filter((kind) => !node.guarded.has(kind));
  expect(missing).toEqual(
    without === null ? [...STRUCTURE_KINDS] : without.split(' ').filter(Boolean),
  );
});

test.each([
  ['overlap-check=some', "Unsupported value 'some' for qcow2 option 'overlap-check'"],
  ['overlap-check=all,overlap-check.template=none', 'Conflicting values for qcow2 options'],
  ['overlap-check.active-l1=maybe', "Parameter 'overlap-check.active-l1' expects 'on' or 'off'"],
])('refused: %s', (options, message) => {
  const { options: given } = parseImageOpts(`driver=qcow2,file.filename=x,${options}`);
  expect(() => parseImage(undefined, given)).toThrow(message);
});
