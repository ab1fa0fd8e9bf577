// A header with a backing file offset and a name of no bytes: to QEMU an image without a backing
// file.

import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { writeField } from '../../src/qcow2/fields.ts';
import { HEADER } from '../../src/qcow2/spec.ts';
import { addImage } from '../support/named-images.ts';

test('a backing file name of no bytes is no backing file', async () => {
  const host = new MemoryHost();
  await addImage(host, '/disk');
  const bytes = host.fileBytes('/disk') ?? new Uint8Array();
  writeField(bytes, HEADER.backingFileOffset, 0x300);
  host.addFile('/disk', bytes);
  await using chain = await openChain('/disk', { host });
  expect(chain.layers).toHaveLength(1);
});
