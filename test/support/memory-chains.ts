// Small random chains in memory, as plain data that fast-check can shrink, with the smallest
// clusters: a commit of one takes few writes.

import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { openChain } from '../../src/chain/open.ts';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { pattern } from './storage-contract.ts';

export interface MemoryLayer {
  readonly raw: boolean;
  readonly sectors: number;
  readonly clusterSize: number;
  readonly version: 2 | 3;
  readonly refcountBits: number;
  readonly operations: readonly MemoryOperation[];
}

/** `at` is a share of the disk. */
export interface MemoryOperation {
  readonly kind: 'write' | 'zero';
  readonly at: number;
  readonly length: number;
}

const operation: fc.Arbitrary<MemoryOperation> = fc.record({
  kind: fc.constantFrom('write', 'write', 'write', 'zero'),
  at: fc.double({ min: 0, max: 0.999, noNaN: true }),
  length: fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 1, max: 40_000 })),
});

export const memoryLayer = (sectors: fc.Arbitrary<number>): fc.Arbitrary<MemoryLayer> =>
  fc
    .record({
      raw: fc.nat(3).map((n) => n === 3),
      sectors,
      clusterSize: fc.constantFrom(512, 512, 1024, 4096),
      version: fc.constantFrom(3, 3, 2),
      refcountBits: fc.constantFrom(1, 8, 16, 16, 64),
      operations: fc.array(operation, { maxLength: 5 }),
    })
    .map((layer) => ({ ...layer, refcountBits: layer.version === 2 ? 16 : layer.refcountBits }));

/** Sizes that are whole and ragged numbers of clusters, and behind one L2 table. */
export const SECTORS = fc.oneof(
  fc.constant(64),
  fc.integer({ min: 1, max: 80 }),
  fc.integer({ min: 64, max: 200 }),
);

/** Base first: base, and `least` to `most` overlays. */
export const memoryChain = (
  least: number,
  most: number,
  sectors = SECTORS,
): fc.Arbitrary<readonly MemoryLayer[]> =>
  fc
    .array(memoryLayer(sectors), { minLength: least + 1, maxLength: most + 1 })
    .map((layers) => layers.map((layer, i) => ({ ...layer, raw: layer.raw && i === 0 })));

export const nameOf = (index: number): string => `/disks/layer${index}`;

/** Builds `/disks/layer0` (base) and so on; returns the names, base first. */
export async function buildChain(
  host: MemoryHost,
  layers: readonly MemoryLayer[],
): Promise<readonly string[]> {
  for (const [i, layer] of layers.entries()) {
    const below = layers[i - 1];
    const backing = below && { name: `layer${i - 1}`, raw: below.raw };
    await addLayer(host, nameOf(i), layer, backing, i);
  }
  return layers.map((_, i) => nameOf(i));
}

/** One layer, over another one beside it. What it holds depends on `seed`. */
export async function addLayer(
  host: MemoryHost,
  name: string,
  layer: MemoryLayer,
  backing: { readonly name: string; readonly raw: boolean } | undefined,
  seed: number,
): Promise<void> {
  const size = layer.sectors * 512;
  if (layer.raw) host.addFile(name, new Uint8Array(size));
  else {
    const { clusterSize, version, refcountBits } = layer;
    const below = backing && {
      backingFile: backing.name,
      backingFormat: backing.raw ? 'raw' : 'qcow2',
    };
    const options = { size, clusterSize, version, refcountBits, ...below };
    await (await createImage(await host.createStorage(name), options)).close();
  }
  await fillLayer(host, name, layer, seed);
}

export async function fillLayer(
  host: MemoryHost,
  name: string,
  layer: MemoryLayer,
  seed: number,
): Promise<void> {
  const format = layer.raw ? 'raw' : 'qcow2';
  await using chain = await openChain(name, { host, writable: true, format });
  for (const [n, { kind, at, length }] of layer.operations.entries()) {
    const offset = Math.floor(at * chain.size);
    const count = Math.min(length, chain.size - offset);
    if (kind === 'zero') await chain.top.zero(offset, count);
    else await chain.write(offset, pattern(count, seed * 100 + n));
  }
}

/** A copy of the files of a host. */
export function filesOf(host: MemoryHost, names: readonly string[]): Map<string, Uint8Array> {
  return new Map(
    names.flatMap((name) => {
      const bytes = host.fileBytes(name);
      return bytes === undefined ? [] : [[name, bytes] as const];
    }),
  );
}

/** The same as digests, which are compared much faster. */
export function digestsOf(host: MemoryHost, names: readonly string[]): Record<string, string> {
  const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
  return Object.fromEntries(
    [...filesOf(host, names)].map(([name, bytes]) => [name, digest(bytes)] as const),
  );
}
