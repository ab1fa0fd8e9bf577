// Repairs of damaged images: at no moment does the guest lose what it could read, and another repair
// ends as well as one that nothing cut off.

import { ImageError } from '../../../src/errors.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { checkImage } from '../../../src/qcow2/check.ts';
import { viewOf } from '../../../src/qcow2/fields.ts';
import { parseHeader } from '../../../src/qcow2/header.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import { type Fix, repairImage } from '../../../src/qcow2/repair.ts';
import { readState } from '../../../src/qcow2/repair-state.ts';
import { EXTENSION, INCOMPATIBLE } from '../../../src/qcow2/spec.ts';
import { bitmapsIn } from '../bitmaps.ts';
import type { Files, Random } from '../crash.ts';
import { buildLayers, type LayerSpec } from './layers.ts';
import { type CrashOperation, ensure, openState } from './scene.ts';
import { snapshotViews } from './snapshot-views.ts';

const CLUSTER = 512;
const COPIED = 1n << 63n;
const OFFSET = 0x00ff_ffff_ffff_fe00n;
/** Below the first refcount block's reach of 256 clusters. */
const IMAGE: LayerSpec = { name: '/image', snapshot: true, writes: 6 };

const WITH_BITMAPS: LayerSpec = { ...IMAGE, snapshot: false, bitmaps: ['a', 'still'] };

/** An image's bytes, and the places of its structures. */
class Parts {
  bytes: Uint8Array;
  readonly #random: Random;

  constructor(bytes: Uint8Array, random: Random) {
    this.bytes = bytes;
    this.#random = random;
  }
  get view(): DataView {
    return viewOf(this.bytes);
  }
  set(offset: number, value: bigint): void {
    this.view.setBigUint64(offset, value);
  }
  at(offset: number): bigint {
    return this.view.getBigUint64(offset);
  }
  pointer(offset: number): number {
    return Number(this.at(offset) & OFFSET);
  }
  get l1(): number {
    return this.pointer(40);
  }
  get refcountTable(): number {
    return this.pointer(48);
  }
  get block(): number {
    return this.pointer(this.refcountTable);
  }
  get snapshots(): number {
    return this.pointer(64);
  }
  /** The directory: its first entry, which starts with the offset of a table. */
  get bitmaps(): number {
    const { extensions } = parseHeader(this.bytes);
    const found = extensions.find(({ type }) => type === EXTENSION.bitmaps);
    return Number(viewOf(found?.data ?? new Uint8Array(24)).getBigUint64(16));
  }
  /** Of 16 bits. */
  refcount(cluster: number, change: (count: number) => number): void {
    const at = this.block + cluster * 2;
    this.view.setUint16(at, change(this.view.getUint16(at)));
  }
  /** Places of entries of the disk's L2 tables that point to data. */
  get dataEntries(): readonly number[] {
    const places: number[] = [];
    for (let i = 0; i < this.view.getUint32(36); i++) {
      const table = this.pointer(this.l1 + i * 8);
      for (let at = table; table > 0 && at < table + CLUSTER; at += 8) {
        if (this.pointer(at) > 0) places.push(at);
      }
    }
    return places;
  }
  /** Some of them, one at least. */
  someOf(places: readonly number[]): readonly number[] {
    const some = places.filter(() => this.#random(3) === 0);
    return some.length > 0 ? some : places.slice(0, 1);
  }
  get clusters(): readonly number[] {
    return Array.from({ length: Math.ceil(this.bytes.length / CLUSTER) }, (_, i) => i);
  }
  append(clusters: number): void {
    const longer = new Uint8Array(this.clusters.length * CLUSTER + clusters * CLUSTER);
    longer.fill(7, this.bytes.length);
    longer.set(this.bytes);
    this.bytes = longer;
  }
}

interface RepairCase {
  readonly name: string;
  readonly fix: Fix;
  readonly layer?: LayerSpec;
  damage(parts: Parts): void;
}

function leak(parts: Parts): void {
  const first = parts.clusters.length;
  parts.append(4);
  for (let i = 0; i < 4; i++) parts.refcount(first + i, () => 1);
  for (const cluster of parts.someOf(parts.clusters)) parts.refcount(cluster, (count) => count + 2);
}

const wrongRefcounts = (parts: Parts) => {
  for (const cluster of parts.someOf(parts.clusters)) {
    parts.refcount(cluster, (count) => (cluster % 2 === 0 ? 0 : count + 1));
  }
};

const shareData = (parts: Parts) => {
  const entries = parts.dataEntries;
  for (const at of parts.someOf(entries)) parts.set(at, parts.at(entries[0] ?? at));
};

/** A data entry points to the table itself. */
const shareWith = (place: (parts: Parts) => number) => (parts: Parts) => {
  const [entry = 0] = parts.someOf(parts.dataEntries);
  parts.set(entry, COPIED | BigInt(place(parts)));
};

const lostTable = (parts: Parts) => {
  parts.bytes.fill(0, parts.refcountTable, parts.refcountTable + CLUSTER);
};

/** A field of an entry that readers can do without. */
const incomplete = (parts: Parts) => parts.view.setUint32(parts.snapshots + 36, 8);

const CASES: readonly RepairCase[] = [
  { name: 'leaks', fix: 'leaks', damage: leak },
  { name: 'leaks', fix: 'all', damage: leak },
  { name: 'refcounts too high and too low', fix: 'all', damage: wrongRefcounts },
  {
    name: 'flags that say that nobody shares',
    fix: 'all',
    damage(parts) {
      for (const at of parts.someOf(parts.dataEntries)) parts.set(at, parts.at(at) ^ COPIED);
    },
  },
  { name: 'a lost refcount table', fix: 'all', damage: lostTable },
  {
    name: 'a lost refcount table of many blocks',
    fix: 'all',
    layer: { ...IMAGE, refcountBits: 64, sectors: 500, longest: 110 },
    damage: lostTable,
  },
  {
    name: 'a refcount block between two clusters',
    fix: 'all',
    damage: (parts) => parts.set(parts.refcountTable, BigInt(parts.block + 8)),
  },
  {
    name: 'a refcount block past the end',
    fix: 'all',
    damage: (parts) => parts.set(parts.refcountTable, BigInt(parts.bytes.length + 8 * CLUSTER)),
  },
  { name: 'clusters that are shared', fix: 'all', damage: shareData },
  {
    name: 'data in a refcount block',
    fix: 'all',
    damage: shareWith(({ block }) => block),
  },
  {
    name: 'data in the refcount table',
    fix: 'all',
    damage: shareWith(({ refcountTable }) => refcountTable),
  },
  { name: 'data in the L1 table', fix: 'all', damage: shareWith(({ l1 }) => l1) },
  {
    name: 'data in an L2 table',
    fix: 'all',
    damage: shareWith((parts) => parts.pointer(parts.l1)),
  },
  {
    name: 'data in the snapshot table',
    fix: 'all',
    damage: shareWith(({ snapshots }) => snapshots),
  },
  { name: 'an incomplete snapshot table', fix: 'all', damage: incomplete },
  {
    name: 'all at once',
    fix: 'all',
    damage(parts) {
      shareData(parts);
      shareWith(({ l1 }) => l1)(parts);
      incomplete(parts);
      leak(parts);
      lostTable(parts);
    },
  },
  {
    name: 'version 2, refcounts and a shared table',
    fix: 'all',
    layer: { ...IMAGE, version: 2 },
    damage(parts) {
      shareWith(({ l1 }) => l1)(parts);
      wrongRefcounts(parts);
    },
  },
  {
    name: 'not closed, lazy refcounts',
    fix: 'all',
    layer: { ...IMAGE, snapshot: false, lazyRefcounts: true, dirty: true },
    damage: () => undefined,
  },
  {
    name: 'a bitmap table past the end',
    fix: 'all',
    layer: WITH_BITMAPS,
    damage: (parts) => parts.set(parts.bitmaps, BigInt(parts.bytes.length + 8 * CLUSTER)),
  },
  {
    name: 'a bitmap entry past the end',
    fix: 'all',
    layer: WITH_BITMAPS,
    damage(parts) {
      parts.set(parts.pointer(parts.bitmaps), BigInt(parts.bytes.length + 8 * CLUSTER));
    },
  },
  {
    name: 'marked corrupt, bitmaps',
    fix: 'all',
    layer: WITH_BITMAPS,
    damage(parts) {
      parts.bytes[79] = 2;
      wrongRefcounts(parts);
    },
  },
];

/** Cluster by cluster; null where the image does not let it be read. */
type View = readonly (Uint8Array | null)[];

async function guestView(host: MemoryHost): Promise<View> {
  const storage = await host.openStorage('/image', { writable: false });
  const image = await Qcow2Image.open(storage, { checking: 'repair' });
  const view: (Uint8Array | null)[] = [];
  for (let at = 0; at < image.size; at += CLUSTER) {
    const cluster = new Uint8Array(Math.min(CLUSTER, image.size - at));
    const isRead = await image.read(at, cluster).then(() => true, onlyImageErrors);
    view.push(isRead ? cluster : null);
  }
  return view;
}

function onlyImageErrors(error: unknown): false {
  if (!(error instanceof ImageError)) throw error;
  return false;
}

function expectNothingLost(before: View, now: View, when: string): void {
  const lost = before.flatMap((cluster, i) => {
    const found = now[i];
    const isThere = found && cluster && Buffer.compare(cluster, found) === 0;
    return cluster === null || isThere ? [] : [i];
  });
  ensure(lost.length === 0, `clusters ${lost} of the disk show something else ${when}`);
}

async function repair(host: MemoryHost, fix: Fix): Promise<void> {
  const storage = await host.openStorage('/image', { writable: true });
  await repairImage(storage, fix, () => undefined);
  await storage.close();
}

async function findingsIn(host: MemoryHost): Promise<readonly string[]> {
  const findings: string[] = [];
  const storage = await host.openStorage('/image', { writable: false });
  await checkImage(await readState(storage), (text) => findings.push(text));
  return findings;
}

const bitmapsOf = (host: MemoryHost): string =>
  JSON.stringify(bitmapsIn(host.fileBytes('/image') ?? new Uint8Array()));

/** Whoever finds it clean takes its refcounts as they are. */
async function expectDirtyOrRight(state: MemoryHost): Promise<void> {
  const storage = await state.openStorage('/image', { writable: false });
  if ((await readState(storage)).header.incompatibleFeatures & INCOMPATIBLE.dirty) return;
  const { corruptions } = await checkImage(await readState(storage), () => undefined);
  ensure(corruptions === 0, `${corruptions} corruptions, and the dirty bit is gone`);
}

const operation = ({ name, fix, layer = IMAGE, damage }: RepairCase): CrashOperation => ({
  name: `repair: -r ${fix}, ${name}`,
  async prepare(random) {
    const sound = await buildLayers([layer], random);
    const parts = new Parts((sound.get('/image') ?? new Uint8Array()).slice(), random);
    damage(parts);
    const files: Files = new Map([['/image', parts.bytes]]);
    const before = await guestView(openState(files));
    const ideal = openState(files);
    await repair(ideal, fix);
    const wanted = await findingsIn(ideal);
    ensure(wanted.length === 0, `a repair leaves\n${wanted.join('\n')}`);
    const bitmaps = bitmapsOf(ideal);
    // That drops them.
    const snapshots = await snapshotViews(ideal, '/image');
    return {
      files,
      corrupt: true,
      run: (host) => repair(host, fix),
      async judge(state) {
        expectNothingLost(before, await guestView(state), 'after the cut');
        if (layer.dirty) await expectDirtyOrRight(state);
      },
      async finish(state) {
        await repair(state, fix);
        expectNothingLost(before, await guestView(state), 'after another repair');
        const found = await findingsIn(state);
        ensure(found.length === 0, `another repair leaves\n${found.join('\n')}`);
        const recorded = bitmapsOf(state);
        ensure(recorded === bitmaps, `another repair ends with ${recorded}, not ${bitmaps}`);
        const copy = openState(new Map([['/image', state.fileBytes('/image') ?? parts.bytes]]));
        const shown = await snapshotViews(copy, '/image');
        ensure(shown === snapshots, `another repair ends with ${shown}, not ${snapshots}`);
      },
    };
  },
});

export const REPAIRS = CASES.map(operation);
