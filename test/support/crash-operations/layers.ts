// Small chains in memory for power cuts: clusters of 512 bytes if not asked otherwise, so that few
// writes reach every structure, and random data in every layer.

import { openChain } from '../../../src/chain/open.ts';
import type { Secrets } from '../../../src/chain/secrets.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { addBitmap } from '../../../src/qcow2/bitmap-edit.ts';
import { type CreateOptions, createImage } from '../../../src/qcow2/create.ts';
import { viewOf, writeField } from '../../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import { setRefcount } from '../../../src/qcow2/refcount.ts';
import { createSnapshot } from '../../../src/qcow2/snapshot-changes.ts';
import { HEADER, INCOMPATIBLE } from '../../../src/qcow2/spec.ts';
import { pattern } from '../../../src/testing.ts';
import { type Files, filesIn, type Random } from '../crash.ts';
import { quickHost } from '../encrypted.ts';
import { newHost } from './scene.ts';

export const SECTOR = 512;

/** Names end in `.raw` where the layer is raw. */
export interface LayerSpec extends Partial<CreateOptions> {
  readonly name: string;
  /** The layer below. Default: the one before it. */
  readonly on?: string;
  /** Of the disk. Default 96. */
  readonly sectors?: number;
  /** Of the disk when it is written; it grows then, so that its tables move. */
  readonly grownFrom?: number;
  /** Writes and zeroed ranges. Default 4. */
  readonly writes?: number;
  /** Sectors of each, at most. Default 30. */
  readonly longest?: number;
  /** Stores some clusters compressed. */
  readonly compressed?: boolean;
  /** Takes a snapshot before the last write. */
  readonly snapshot?: boolean;
  /** That record. Those whose names start with `still` do not, when all is written. */
  readonly bitmaps?: readonly string[];
  /** Was not closed by a writer with lazy refcounts: some are missing. */
  readonly dirty?: boolean;
}

/** The deepest first. */
export async function buildLayers(
  specs: readonly LayerSpec[],
  random: Random,
  secrets?: Secrets,
): Promise<Files> {
  const host = newHost();
  for (const [i, spec] of specs.entries()) {
    const below = spec.on === undefined ? i - 1 : specs.findIndex(({ name }) => name === spec.on);
    await createLayer(host, spec, specs[below]);
    await fillLayer(host, spec, random, secrets);
    if (spec.dirty) makeDirty(host, spec.name, random);
  }
  const names = specs.flatMap(({ name, dataFile }) => (dataFile ? [name, `/${dataFile}`] : [name]));
  return filesIn(host, names);
}

async function createLayer(
  host: MemoryHost,
  { name, sectors = 96, grownFrom = sectors, ...spec }: LayerSpec,
  below: LayerSpec | undefined,
): Promise<void> {
  const size = grownFrom * SECTOR;
  if (name.endsWith('.raw')) {
    host.addFile(name, new Uint8Array(size));
    return;
  }
  const { on, writes, longest, compressed, snapshot, bitmaps, dirty, ...rest } = spec;
  const backing = below && {
    backingFile: below.name.slice(1),
    backingFormat: below.name.endsWith('.raw') ? 'raw' : 'qcow2',
  };
  const data = rest.dataFile && (await host.createStorage(`/${rest.dataFile}`));
  const storage = await host.createStorage(name);
  const options = { clusterSize: 512, ...backing, ...rest, size };
  await (await createImage(storage, options, data || undefined, quickHost())).storage.close();
}

async function fillLayer(
  host: MemoryHost,
  { name, writes = 4, longest = 30, ...spec }: LayerSpec,
  random: Random,
  secrets: Secrets | undefined,
): Promise<void> {
  const format = name.endsWith('.raw') ? 'raw' : 'qcow2';
  const options = { host, writable: true, format, ...(secrets && { secrets }) };
  await using chain = await openChain(name, options);
  const { top } = chain;
  const image = top instanceof Qcow2Image ? top : undefined;
  await image?.changeBitmaps(async (bitmaps) => {
    for (const each of spec.bitmaps ?? []) addBitmap(bitmaps, image, each, 512);
  });
  for (let i = 0; i < writes; i++) {
    if (spec.snapshot && image && i === writes - 1) {
      await createSnapshot(image, { name: 's', seconds: 1, nanoseconds: 0 });
    }
    // Mostly whole sectors, as guests write them.
    const at = random(chain.size / SECTOR) * SECTOR + (random(6) === 0 ? 100 : 0);
    const length = Math.min((1 + random(longest)) * SECTOR, chain.size - at);
    if (i > 0 && random(4) === 0) await top.zero(at, length);
    else if (spec.compressed && image && random(2) === 0) {
      const whole = at - (at % image.clusterSize);
      const end = Math.min(whole + 2 * image.clusterSize, chain.size);
      await image.writeCompressed(whole, new Uint8Array(end - whole).fill(1 + random(250)));
    } else await top.write(at, pattern(length, 1 + random(1000)));
  }
  if (spec.grownFrom !== undefined) await top.grow((spec.sectors ?? 96) * SECTOR);
  await image?.changeBitmaps(async (bitmaps) => {
    for (const each of bitmaps.list) if (each.name.startsWith('still')) each.enabled = false;
  });
}

/** Refcounts of some clusters were never written. */
function makeDirty(host: MemoryHost, name: string, random: Random): void {
  const bytes = host.fileBytes(name) ?? new Uint8Array();
  const view = viewOf(bytes);
  writeField(bytes, HEADER.incompatibleFeatures, INCOMPATIBLE.dirty);
  const clusterSize = 2 ** view.getUint32(HEADER.clusterBits.offset);
  const order = view.getUint32(HEADER.refcountOrder.offset);
  const perBlock = (clusterSize * 8) / 2 ** order;
  const table = Number(view.getBigUint64(HEADER.refcountTableOffset.offset));
  for (let cluster = 1; cluster < bytes.length / clusterSize; cluster++) {
    if (random(3) > 0) continue;
    const block = Number(view.getBigUint64(table + Math.floor(cluster / perBlock) * 8));
    setRefcount(bytes.subarray(block, block + clusterSize), cluster % perBlock, order, 0);
  }
  host.addFile(name, bytes);
}
