// A header that is rewritten for another backing file is a write: autoclear bits that nobody here
// knows have to go, as they do before any other write.

import { expect, test } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { writeField } from '../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { HEADER } from '../../src/qcow2/spec.ts';
import { memoryImage } from '../support/memory-images.ts';

test('changing the backing file clears unknown autoclear bits', async () => {
  const made = await memoryImage({ size: 65536, backingFile: 'a', backingFormat: 'raw' });
  await made.flush();
  const bytes = new Uint8Array(made.storage.size);
  await made.storage.read(0, bytes);
  writeField(bytes, HEADER.autoclearFeatures, 0b1001n);
  const image = await Qcow2Image.open(new MemoryStorage(bytes));
  await image.setBackingFile({ name: 'b', format: 'qcow2' });
  const { autoclearFeatures, backingFile } = await Qcow2Image.readHeader(image.storage);
  expect({ autoclearFeatures, backingFile }).toEqual({ autoclearFeatures: 0b1n, backingFile: 'b' });
});
