// Small images in memory that contradict themselves, and what the guest still sees through them.

import fc from 'fast-check';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { viewOf as dataView } from '../../src/qcow2/fields.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { createSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { memoryImage, memoryOf } from './memory-images.ts';
import { pattern } from './storage-contract.ts';

export const CLUSTER = 512;
const SIZE = 150 * CLUSTER;
const NOW = { seconds: 1, nanoseconds: 0 };
const OFFSET = 0x00ff_ffff_ffff_fe00n;

export const shapes = fc.record({
  version: fc.constantFrom(2 as const, 3 as const, 3 as const),
  refcountBits: fc.constantFrom(1, 8, 16, 16, 64),
  snapshots: fc.nat(2),
});
export type Shape = typeof shapes extends fc.Arbitrary<infer Value> ? Value : never;

/** A sound image with data, zeros and snapshots in it. */
export async function soundImage({ version, refcountBits, snapshots }: Shape): Promise<Uint8Array> {
  const bits = version === 2 ? 16 : refcountBits;
  const image = await memoryImage({
    version,
    refcountBits: bits,
    size: SIZE,
    clusterSize: CLUSTER,
  });
  await image.write(0, pattern(60 * CLUSTER, 1));
  for (let i = 0; i < (bits === 1 ? 0 : snapshots); i++) {
    await createSnapshot(image, { name: `s${i}`, ...NOW });
    await image.write((20 * i + 5) * CLUSTER, pattern(30 * CLUSTER, i + 2));
    await image.zero((20 * i + 15) * CLUSTER, 5 * CLUSTER);
  }
  await image.close();
  return memoryOf(image).bytes();
}

/** What is done to a structure of an image. */
export const damages = fc.array(
  fc.record({
    where: fc.constantFrom(
      'l1',
      'l2',
      'l2',
      'refcountTable',
      'block',
      'block',
      'snapshots',
      'file',
    ),
    /** Which of its entries. */
    at: fc.nat(63),
    to: fc.oneof(
      fc.record({ cluster: fc.nat(130), off: fc.constantFrom(0, 0, 0, 0, 8) }),
      fc.record({ cluster: fc.integer({ min: 130, max: 230 }), off: fc.constant(0) }),
      fc.constant({ cluster: 2 ** 40, off: 0 }),
    ),
    flags: fc.constantFrom(0n, 1n, 1n << 62n, 1n << 63n, 1n << 63n, (1n << 63n) | 1n),
  }),
  { minLength: 1, maxLength: 4 },
);
export type Damages = typeof damages extends fc.Arbitrary<infer Value> ? Value : never;

export function damaged(sound: Uint8Array, changes: Damages): Uint8Array {
  let bytes: Uint8Array = sound.slice();
  for (const { where, at, to, flags } of changes) {
    const view = dataView(bytes);
    const pointer = (from: number): number =>
      from + 8 > bytes.length ? 0 : Number(view.getBigUint64(from) & OFFSET);
    const l1 = pointer(40);
    const refcountTable = pointer(48);
    const places: Record<typeof where, number> = {
      l1,
      l2: pointer(l1 + (at % 3) * 8),
      refcountTable,
      block: pointer(refcountTable + (at % 2) * 8),
      snapshots: pointer(64),
      file: 0,
    };
    const place = places[where];
    if (where === 'file') {
      bytes = at < 8 ? bytes.slice(0, bytes.length - at * CLUSTER) : withTail(bytes, at % 4);
    } else if (place >= CLUSTER && place + CLUSTER <= bytes.length) {
      if (where === 'block') bytes[place + at * 3] = Number(flags & 3n) + (to.cluster & 3);
      else if (where === 'snapshots') view.setUint32(place + (at % 12) * 4, to.cluster * 8);
      else view.setBigUint64(place + at * 8, BigInt(to.cluster * CLUSTER + to.off) | flags);
    }
  }
  return bytes;
}

function withTail(bytes: Uint8Array, clusters: number): Uint8Array {
  const longer = new Uint8Array(bytes.length + clusters * CLUSTER).fill(7);
  longer.set(bytes);
  return longer;
}

/** Cluster by cluster; null where the image does not let it be read. */
export type View = readonly (Uint8Array | null)[];

export async function guestView(bytes: Uint8Array): Promise<View> {
  const image = await Qcow2Image.open(new MemoryStorage(bytes), { checking: 'repair' });
  const view: (Uint8Array | null)[] = [];
  for (let at = 0; at < SIZE; at += CLUSTER) {
    const cluster = new Uint8Array(CLUSTER);
    const isRead = await image.read(at, cluster).then(() => true, onlyImageErrors);
    view.push(isRead ? cluster : null);
  }
  return view;
}

/** Guest clusters that were seen, and show something else now. */
export function lost(before: View, after: View): readonly number[] {
  return before.flatMap((cluster, i) => {
    const now = after[i];
    if (cluster === null) return [];
    return now && Buffer.compare(cluster, now) === 0 ? [] : [i];
  });
}

export function onlyImageErrors(error: unknown): undefined {
  if (!(error instanceof ImageError)) throw error;
  return undefined;
}
