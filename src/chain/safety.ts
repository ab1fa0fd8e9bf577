// What an image could reach or do to whoever uses it, told before that happens: from its header and
// lists alone, without opening anything that it names.

import type { Host } from '../io/host.ts';
import { l1EntriesFor } from '../qcow2/geometry.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { AUTOCLEAR, COMPATIBLE, EXTENSION, KNOWN_AUTOCLEAR } from '../qcow2/spec.ts';
import { GIB, KIB } from '../units.ts';
import type { ChainLayer } from './chain.ts';
import { directoryOf, hostFileOf, resolveName } from './filename.ts';
import { isPlain } from './trust.ts';

/** One thing to know. */
export interface Concern {
  readonly kind:
    | 'backing-file'
    | 'data-file'
    | 'protocol'
    | 'outside'
    | 'no-image'
    | 'format-not-stored'
    | 'format-probed'
    | 'control-characters'
    | 'unknown-feature'
    | 'unknown-extension'
    | 'dirty'
    | 'corrupt'
    | 'size'
    | 'tables'
    | 'iterations';
  /** For people; names in it are as stored. */
  readonly about: string;
}

/** Larger disks fit into no file of the usual file systems. */
const LARGE_DISK = 16 * 1024 * GIB;
/** In bytes: smaller ones do no harm in any file. */
const LARGE_TABLE = 512 * KIB;
/** A second or so for each million. */
const MANY_ITERATIONS = 20_000_000;
/** What steers a terminal or hides other text. */
const CONTROL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/** In the order of the header. Rejects where lists of the image can't be read. */
export async function concernsOf(layer: ChainLayer, host: Host): Promise<readonly Concern[]> {
  const { layer: image, filename, formatKnown } = layer;
  const concerns: Concern[] = [];
  const tell = (kind: Concern['kind'], about: string) => concerns.push({ kind, about });
  if (!formatKnown) {
    tell('format-probed', `its content says that it is ${image.format}: so may what a guest wrote`);
  }
  if (!(image instanceof Qcow2Image)) return concerns;
  const { backingFile, backingFormat, dataFile } = image.header;
  if (backingFile !== null) {
    tell('backing-file', `reads the backing file '${backingFile}'`);
    if (backingFormat === null) {
      tell('format-not-stored', `the content of '${backingFile}' decides what format it has`);
    }
    await named(backingFile, filename, host, tell);
  }
  if (dataFile !== null) {
    tell('data-file', `reads and writes the data file '${dataFile}'`);
    await named(dataFile, filename, host, tell);
  }
  bits(image, tell);
  await sizes(image, tell);
  await names(image, tell);
  return concerns;
}

type TellConcern = (kind: Concern['kind'], about: string) => void;

/** Where a name in the header leads; nothing of it is opened. */
async function named(name: string, from: string, host: Host, tell: TellConcern): Promise<void> {
  if (!isPlain(name)) {
    tell('protocol', `'${name}' is no plain file name: it can reach anything that its driver can`);
    return;
  }
  const file = hostFileOf(resolveName(from, name));
  const kind = (await host.identify(file))?.kind;
  if (kind !== undefined && kind !== 'file') {
    tell('no-image', `'${name}' is ${KINDS[kind]}`);
  }
  const home = directoryOf(await host.realPath(from));
  const real = await host.realPath(file);
  if (!real.startsWith(home)) {
    tell('outside', `'${name}' lies outside of the image's directory: it is '${real}'`);
  }
}

const KINDS = {
  'block-device': 'a block device',
  'character-device': 'a character device',
  directory: 'a directory',
  other: 'neither a file nor a device',
} as const;

function bits({ header, dirty, corrupt }: Qcow2Image, tell: TellConcern): void {
  if (dirty) tell('dirty', 'it was not closed properly: its refcounts may be wrong');
  if (corrupt) tell('corrupt', 'it is marked corrupt');
  const strange = [
    ['compatible', header.compatibleFeatures & ~COMPATIBLE.lazyRefcounts],
    ['autoclear', header.autoclearFeatures & ~KNOWN_AUTOCLEAR],
  ] as const;
  for (const [what, unknown] of strange) {
    if (unknown !== 0n)
      tell('unknown-feature', `unknown ${what} features: ${unknown.toString(16)}`);
  }
  const known: readonly number[] = Object.values(EXTENSION);
  for (const { type } of header.extensions) {
    if (known.includes(type)) continue;
    tell('unknown-extension', `unknown header extension 0x${type.toString(16)}`);
  }
  const isRaw = (header.autoclearFeatures & AUTOCLEAR.rawExternalData) !== 0n;
  if (isRaw && header.dataFile === null) {
    tell('unknown-feature', 'says that its data file is raw, and has none');
  }
}

async function sizes(
  { header, geometry, size, storage, encryption }: Qcow2Image,
  tell: TellConcern,
): Promise<void> {
  const taken = Math.min(storage.size, (await storage.allocatedBytes()) ?? storage.size);
  const { l1Size, l1TableOffset, refcountTableOffset, refcountTableClusters } = header;
  if (size > LARGE_DISK) tell('size', `its disk has ${size} bytes, its file ${storage.size}`);
  const needed = l1EntriesFor(size, geometry);
  if (l1Size > 2 * needed + geometry.clusterSize / 8) {
    tell('tables', `its L1 table has ${l1Size} entries, and its disk needs ${needed}`);
  }
  const tables = [
    ['L1 table', l1TableOffset, l1Size * 8],
    ['refcount table', refcountTableOffset, refcountTableClusters * geometry.clusterSize],
  ] as const;
  for (const [what, offset, length] of tables) {
    if (offset + length > storage.size) tell('tables', `its ${what} ends past the end of the file`);
    else if (length > taken / 4 && length > Math.max(LARGE_TABLE, 2 * geometry.clusterSize)) {
      tell('tables', `its ${what} has ${length} bytes, and the file takes ${taken}`);
    }
  }
  const luks = encryption?.format === 'luks' ? encryption.luks : null;
  const slots = luks?.header.keySlots.filter(({ active }) => active) ?? [];
  const iterations = slots.reduce((sum, slot) => sum + slot.iterations, 0);
  if (iterations > MANY_ITERATIONS) {
    tell('iterations', `a wrong passphrase costs ${iterations} iterations`);
  }
}

/** All that the image calls by a name. */
async function names(image: Qcow2Image, tell: TellConcern): Promise<void> {
  const { backingFile, backingFormat, dataFile, featureNames } = image.header;
  const found: (readonly [string, string | null])[] = [
    ['backing file', backingFile],
    ['backing format', backingFormat],
    ['data file', dataFile],
    ...featureNames.map(({ name }) => ['feature', name] as const),
    ...image.bitmaps.list.map(({ name }) => ['bitmap', name] as const),
  ];
  for (const { name } of await image.snapshots()) found.push(['snapshot', name]);
  const told = new Set<string>();
  for (const [what, name] of found) {
    if (name === null || told.has(what) || !CONTROL.test(name)) continue;
    // One of each is enough: there may be thousands.
    told.add(what);
    tell('control-characters', `the name of a ${what} has control characters: '${name}'`);
  }
}
