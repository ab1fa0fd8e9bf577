// What is told of an image before anybody follows what it names.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { concernsOf } from '../../src/chain/safety.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { type CreateOptions, createImage } from '../../src/qcow2/create.ts';
import { writeField } from '../../src/qcow2/fields.ts';
import { HEADER } from '../../src/qcow2/spec.ts';

interface Case {
  readonly options?: Partial<CreateOptions>;
  readonly format?: string;
  readonly patch?: (bytes: Uint8Array) => void;
}

async function kinds({ options = {}, format = 'qcow2', patch }: Case): Promise<readonly string[]> {
  const host = new MemoryHost();
  host.addFile('/images/base', new Uint8Array(4096));
  const whole = { size: 4096, clusterSize: 512, ...options };
  const data =
    options.dataFile === undefined ? undefined : await host.createStorage('/images/data');
  await (await createImage(await host.createStorage('/images/top'), whole, data)).close();
  const bytes = host.fileBytes('/images/top') ?? new Uint8Array();
  patch?.(bytes);
  host.addFile('/images/top', bytes);
  const opening = { host, single: true, describe: true, ...(format && { format }) };
  await using chain = await openChain('/images/top', opening);
  return (await concernsOf(chain.at(0), host)).map(({ kind }) => kind);
}

test('an image that stands alone, of a format that somebody knows, has nothing to tell', async () => {
  expect(await kinds({})).toEqual([]);
});

test('a guest may have written what makes a raw disk look like an image', async () => {
  expect(await kinds({ format: '' })).toEqual(['format-probed']);
});

test.each<[string, readonly string[]]>([
  ['base', ['backing-file']],
  ['../images/base', ['backing-file']],
  ['/etc/passwd', ['backing-file', 'outside']],
  ['../secret', ['backing-file', 'outside']],
  ['/images', ['backing-file', 'no-image', 'outside']],
  ['json:{"driver": "null-co"}', ['backing-file', 'protocol']],
  ['nbd:host:10809', ['backing-file', 'protocol']],
  ['a\nb', ['backing-file', 'control-characters']],
  ['a\u{202e}b', ['backing-file', 'control-characters']],
])('the backing file %j', async (backingFile, expected) => {
  expect(await kinds({ options: { backingFile, backingFormat: 'raw' } })).toEqual(expected);
});

test('a backing file whose format is not stored', async () => {
  const options = { backingFile: 'base' };
  expect(await kinds({ options })).toEqual(['backing-file', 'format-not-stored']);
});

test('a data file', async () => {
  const options = { dataFile: 'data' };
  expect(await kinds({ options })).toEqual(['data-file']);
});

test('bits, and features that nobody knows', async () => {
  const patch = (bytes: Uint8Array) => {
    writeField(bytes, HEADER.incompatibleFeatures, 3n);
    writeField(bytes, HEADER.compatibleFeatures, 1n << 40n);
    writeField(bytes, HEADER.autoclearFeatures, 1n << 40n);
  };
  expect(await kinds({ patch })).toEqual([
    'dirty',
    'corrupt',
    'unknown-feature',
    'unknown-feature',
  ]);
});

test('tables out of proportion', async () => {
  const l1Size = (bytes: Uint8Array) => writeField(bytes, HEADER.l1Size, 100_000);
  expect(await kinds({ patch: l1Size })).toEqual(['tables', 'tables']);
  const clusters = (bytes: Uint8Array) => writeField(bytes, HEADER.refcountTableClusters, 100);
  expect(await kinds({ patch: clusters })).toEqual(['tables']);
});

test('a disk that no file could hold', async () => {
  const options = { size: 2 ** 45, clusterSize: 2 * 1024 * 1024 };
  expect(await kinds({ options })).toEqual(['size']);
});
