// repairImage: what it did as data, and what it would do.

import { expect, test } from 'vitest';
import { checkImage, MemoryStorage, repairImage } from '../../src/index.ts';
import { viewOf } from '../../src/qcow2/fields.ts';
import { memoryImage, memoryOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

/** An image with a cluster that nothing uses, and one whose refcount is too low. */
async function broken(): Promise<Uint8Array> {
  const image = await memoryImage({ size: 100 * 512, clusterSize: 512 });
  await image.write(0, pattern(20 * 512, 1));
  await image.close();
  const bytes = memoryOf(image).bytes();
  const view = viewOf(bytes);
  const block = Number(view.getBigUint64(image.tables.refcountTablePlace.offset));
  const clusters = bytes.length / 512;
  view.setUint16(block + (clusters - 1) * 2, 0);
  view.setUint16(block + (clusters - 2) * 2, 2);
  return bytes;
}

test('what was found and put right is told, and what is left', async () => {
  const storage = new MemoryStorage(await broken());
  const { leaksFixed, corruptionsFixed, findings, after } = await repairImage(storage);
  expect({ leaksFixed, corruptionsFixed }).toEqual({ leaksFixed: 1, corruptionsFixed: 1 });
  expect(findings.map(({ kind }) => kind)).toContain('leak');
  expect(findings.map(({ message }) => message)).toContain('Rebuilding refcount structure');
  expect(after).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0, findings: [] });
  const again = await checkImage(storage.bytes());
  expect(again).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
});

test('a dry run tells the same and writes nothing', async () => {
  const bytes = await broken();
  const [dry, wet] = [new MemoryStorage(bytes, { writable: false }), new MemoryStorage(bytes)];
  const told = await repairImage(dry, { dryRun: true });
  expect(Buffer.compare(dry.bytes(), bytes)).toBe(0);
  expect(told).toEqual(await repairImage(wet));
});

test('leaks alone leave refcounts that are too low', async () => {
  const storage = new MemoryStorage(await broken());
  await expect(repairImage(storage, { fix: 'leaks' })).rejects.toMatchObject({ code: 'corrupt' });
});

test('what is no option, and no image of this kind, is refused', async () => {
  const fix = 'some' as 'all';
  await expect(repairImage(await broken(), { fix })).rejects.toMatchObject({ code: 'invalid' });
  const raw = repairImage(new Uint8Array(512), { format: 'raw' });
  await expect(raw).rejects.toMatchObject({ code: 'unsupported' });
});

test('a signal stops it, and the same call again completes it', async () => {
  const storage = new MemoryStorage(await broken());
  const stop = new AbortController();
  const reason = new Error('stopped');
  const { write } = storage;
  storage.write = async (...args) => {
    stop.abort(reason);
    await write.apply(storage, args);
  };
  await expect(repairImage(storage, { signal: stop.signal })).rejects.toBe(reason);
  const { after } = await repairImage(new MemoryStorage(storage.bytes()));
  expect(after).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
});
