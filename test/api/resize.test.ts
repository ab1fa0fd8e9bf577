// resizeImage as programs call it.

import { expect, test } from 'vitest';
import { createImage, MemoryHost, openChain, resizeImage } from '../../src/index.ts';
import { pattern } from '../support/storage-contract.ts';

const MIB = 1024 * 1024;

class SmallDisk extends MemoryHost {
  override async freeSpace(): Promise<undefined> {
    return (3 * MIB) as unknown as undefined;
  }
}

async function diskIn(host: MemoryHost): Promise<Uint8Array> {
  const content = pattern(MIB, 1);
  await using chain = await createImage('disk.qcow2', { size: MIB, host });
  await chain.write(0, content);
  return content;
}

async function viewIn(host: MemoryHost, filename = 'disk.qcow2'): Promise<Uint8Array> {
  await using chain = await openChain(filename, { host });
  const view = new Uint8Array(chain.size);
  await chain.read(0, view);
  return view;
}

test('larger and smaller', async () => {
  const host = new MemoryHost();
  const content = await diskIn(host);
  await resizeImage('disk.qcow2', 2 * MIB, { host, preallocation: 'full' });
  const larger = new Uint8Array(2 * MIB);
  larger.set(content);
  expect(Buffer.compare(await viewIn(host), larger)).toBe(0);
  await resizeImage('disk.qcow2', 100 * 1024, { host, shrink: true });
  expect(Buffer.compare(await viewIn(host), content.subarray(0, 100 * 1024))).toBe(0);
});

test('raw files', async () => {
  const host = new MemoryHost();
  host.addFile('disk.raw', pattern(4096, 1));
  await resizeImage('disk.raw', 5000, { host, format: 'raw', preallocation: 'full' });
  await resizeImage('disk.raw', 1000, { host, format: 'raw', shrink: true });
  const view = await viewIn(host, 'disk.raw');
  expect(Buffer.compare(view.subarray(0, 1000), pattern(4096, 1).subarray(0, 1000))).toBe(0);
  await expect(resizeImage('disk.raw', 5000, { host })).rejects.toMatchObject({
    code: 'invalid',
    message: "The format of 'disk.raw' was guessed to be raw: give it",
  });
  await expect(
    resizeImage('disk.raw', 5000, { host, format: 'raw', preallocation: 'metadata' }),
  ).rejects.toMatchObject({ code: 'unsupported' });
});

test.each([
  [MIB / 2, {}, /shrink is not set/],
  [MIB / 2, { shrink: true, preallocation: 'full' }, /disks that grow/],
  [MIB, { preallocation: 'full' }, /disks that grow/],
  [0, { shrink: true }, /out of range/],
  [-1, { shrink: true }, /out of range/],
  [2 ** 53, {}, /out of range/],
  [MIB + 1, {}, /multiple of 512/],
  [2 * MIB, { preallocation: 'all' as 'full' }, /preallocation is none of/],
] as const)('refused: %s %o', async (size, options, message) => {
  const host = new MemoryHost();
  const content = await diskIn(host);
  const refused = resizeImage('disk.qcow2', size, { host, ...options });
  await expect(refused).rejects.toMatchObject({ code: 'invalid', message });
  expect(Buffer.compare(await viewIn(host), content)).toBe(0);
});

test('too little space is told with both numbers, and nothing is written', async () => {
  const host = new SmallDisk();
  const content = await diskIn(host);
  const wanted = { host, preallocation: 'falloc' } as const;
  await expect(resizeImage('disk.qcow2', 8 * MIB, wanted)).rejects.toMatchObject({
    code: 'no-space',
    message: `'disk.qcow2' needs ${7 * MIB} bytes more, and ${3 * MIB} are free`,
  });
  expect(Buffer.compare(await viewIn(host), content)).toBe(0);
  await resizeImage('disk.qcow2', 8 * MIB, { ...wanted, force: true });
  expect((await viewIn(host)).length).toBe(8 * MIB);
});

test('without preallocation a disk may be larger than its file system', async () => {
  const host = new SmallDisk();
  await diskIn(host);
  await resizeImage('disk.qcow2', 1024 * MIB, { host });
  await using chain = await openChain('disk.qcow2', { host });
  expect(chain.size).toBe(1024 * MIB);
});

test('stopped before the first write', async () => {
  const host = new MemoryHost();
  const content = await diskIn(host);
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(resizeImage('disk.qcow2', 2 * MIB, { host, signal })).rejects.toThrow('enough');
  expect(Buffer.compare(await viewIn(host), content)).toBe(0);
});
