// Comparing chains, and the status of ranges, as a program uses them.

import { beforeEach, expect, test } from 'vitest';
import {
  type Chain,
  type CompareOptions,
  type CompareProgress,
  type Comparison,
  compareChains,
  createImage,
  MemoryHost,
  MemoryStorage,
  openChain,
} from '../../src/index.ts';
import { collect } from '../support/collect.ts';

const MIB = 1024 * 1024;
let host: MemoryHost;

beforeEach(async () => {
  host = new MemoryHost();
  await using base = await createImage('base', { host, size: 4 * MIB });
  await base.write(0, new Uint8Array(2 * MIB).fill(1));
  await base.close();
  const backing = { backingFile: 'base', backingFormat: 'qcow2' } as const;
  await using top = await createImage('top', { host, size: 6 * MIB, ...backing });
  await top.write(MIB, new Uint8Array(MIB / 2).fill(2));
  await top.zero(0, MIB / 4);
});

/** The guest's view through `top` as a raw file, changed. */
async function rawOf(change: (bytes: Uint8Array) => void = () => {}): Promise<Uint8Array> {
  await using chain = await openChain('top', { host });
  const bytes = new Uint8Array(chain.size);
  await chain.read(0, bytes);
  change(bytes);
  return bytes;
}

async function compare(raw: Uint8Array, options: CompareOptions = {}): Promise<Comparison> {
  await using top = await openChain('top', { host });
  await using other = await openChain(raw, { format: 'raw' });
  const one = await compareChains(top, other, options);
  expect(await compareChains(other, top, { strict: false, ...options })).toEqual(one);
  return one;
}

test('a chain and its copy are the same, also where one goes on with zeros', async () => {
  const raw = await rawOf();
  expect(await compare(raw)).toEqual({ kind: 'identical' });
  expect(await compare(raw.subarray(0, 3 * MIB))).toEqual({ kind: 'identical' });
});

test('the first sector that differs is told', async () => {
  const changed = await rawOf((bytes) => bytes.fill(9, 2 * MIB + 1000, 3 * MIB));
  expect(await compare(changed)).toEqual({ kind: 'content', offset: 2 * MIB + 512 });
});

test('a strict comparison looks at sizes and allocation', async () => {
  const strict = { strict: true };
  const raw = await rawOf();
  expect(await compare(raw.subarray(0, 3 * MIB), strict)).toEqual({ kind: 'size' });
  expect(await compare(raw, strict)).toEqual({ kind: 'status', offset: 0 });
  await using top = await openChain('top', { host });
  expect(await compareChains(top, top, strict)).toEqual({ kind: 'identical' });
});

test('progress goes from piece to piece up to the size of the larger disk', async () => {
  const seen: CompareProgress[] = [];
  const onProgress = (progress: CompareProgress) => seen.push(progress);
  await using top = await openChain('top', { host });
  await using base = await openChain('base', { host });
  const top2 = await openChain('top', { host });
  await compareChains(top, top2, { onProgress });
  await top2.close();
  expect(seen.at(-1)).toEqual({ done: 6 * MIB, total: 6 * MIB });
  const steps = seen.map(({ done }) => done);
  expect(steps).toEqual([...steps].sort((a, b) => a - b));
  expect(await compareChains(base, base)).toEqual({ kind: 'identical' });
});

test('its signal stops it, before and within', async () => {
  const reason = new Error('enough');
  await using top = await openChain('top', { host });
  const never = compareChains(top, top, { signal: AbortSignal.abort(reason) });
  await expect(never).rejects.toBe(reason);
  const stop = new AbortController();
  const onProgress = () => stop.abort(reason);
  const stopped = compareChains(top, top, { signal: stop.signal, onProgress });
  await expect(stopped).rejects.toBe(reason);
});

test('what can not be read is named, and chains of others are refused', async () => {
  class Broken extends MemoryStorage {
    override async read(): Promise<void> {
      throw new Error('not to be read');
    }
  }
  await using top = await openChain('top', { host });
  const rules = [{ event: 'none', iotype: 'read', sector: 2048 + 8, errno: 5 }] as const;
  host.addFile('raw', await rawOf());
  const broken = { driver: 'blkdebug', image: { driver: 'file', filename: 'raw' } } as const;
  await using other = await openChain(
    { driver: 'raw', file: { ...broken, 'inject-error': rules } },
    { host },
  );
  await expect(compareChains(top, other)).rejects.toMatchObject({
    name: 'ImageError',
    code: 'io',
    message: expect.stringContaining("Could not compare 'raw' at "),
  });
  await expect(openChain(new Broken())).rejects.toThrow('not to be read');
  await using alone = await openChain('top', { host, backing: false });
  await expect(compareChains(alone, alone)).rejects.toMatchObject({ code: 'invalid' });
  const copy: Chain = { ...top };
  await expect(compareChains(top, copy)).rejects.toMatchObject({ code: 'invalid' });
});

test('the status of ranges tells layer, kind and place', async () => {
  await using chain = await openChain('top', { host });
  const found: unknown[][] = [];
  for await (const { kind, layer, offset, length, hostOffset } of chain.status()) {
    found.push([kind, layer, offset / MIB, length / MIB, typeof hostOffset]);
  }
  expect(found).toEqual([
    ['zero', 0, 0, 0.25, 'object'],
    ['data', 1, 0.25, 0.75, 'number'],
    ['data', 0, 1, 0.5, 'number'],
    ['data', 1, 1.5, 0.5, 'number'],
    ['absent', 1, 2, 2, 'object'],
    ['absent', 0, 4, 2, 'object'],
  ]);
});

test('where it says that bytes lie, they do', async () => {
  await using chain = await openChain('top', { host });
  const whole = await rawOf();
  for await (const { kind, layer, offset, length, hostOffset } of chain.status()) {
    if (kind !== 'data' || hostOffset === null) continue;
    const bytes = host.fileBytes(chain.layers[layer]?.filename ?? '');
    const there = bytes?.subarray(hostOffset, hostOffset + length) ?? new Uint8Array();
    expect(Buffer.compare(there, whole.subarray(offset, offset + length))).toBe(0);
  }
});

test('a range of it, and its signal', async () => {
  await using chain = await openChain('top', { host });
  const range = { offset: MIB + 10, length: 100 };
  expect(await collect(chain.status(range))).toMatchObject([{ kind: 'data', ...range }]);
  expect(await collect(chain.status({ length: 0 }))).toEqual([]);
  const outside = chain.status({ offset: 6 * MIB, length: 1 });
  await expect(outside.next()).rejects.toMatchObject({ code: 'invalid' });
  const reason = new Error('enough');
  await expect(chain.status({ signal: AbortSignal.abort(reason) }).next()).rejects.toBe(reason);
});
