// What `info` tells of one image: an object whose members come in the order of qemu-img's JSON.

import type { ChainLayer } from '../chain/chain.ts';
import { resolveName } from '../chain/filename.ts';
import { isNbdName } from '../chain/nbd-options.ts';
import { NULL_NAME } from '../io/null.ts';
import { inTableOrder } from '../json/printer.ts';
import type { Layer } from '../layer.ts';
import type { Bitmap } from '../qcow2/bitmaps.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { Snapshot } from '../qcow2/snapshots.ts';
import { AUTOCLEAR, COMPATIBLE, CRYPT_NONE, INCOMPATIBLE } from '../qcow2/spec.ts';
import { RawImage } from '../raw/raw.ts';
import { describeLuks } from './describe-luks.ts';

export type Value =
  | string
  | number
  | boolean
  | readonly Value[]
  | { readonly [key: string]: Value };
export type Description = { readonly [key: string]: Value };

export async function describeImage({
  layer,
  filename: file,
  name,
}: Pick<ChainLayer, 'layer' | 'filename' | 'name'>): Promise<Description> {
  const actualSize = await layer.storage.allocatedBytes();
  const actual = actualSize !== undefined && { 'actual-size': actualSize };
  if (!(layer instanceof Qcow2Image)) {
    const below = imageBelow(layer);
    return {
      'virtual-size': layer.size,
      filename: name,
      ...(below !== null && { 'cluster-size': below.clusterSize }),
      format: layer.format,
      ...actual,
      // Nobody keeps one for nothing, and servers tell of none.
      ...(layer.storage.filename !== NULL_NAME &&
        !isNbdName(layer.storage.filename) && { 'dirty-flag': below?.dirty ?? false }),
    };
  }
  const { header } = layer;
  const snapshots = await layer.snapshots();
  const { backingFile, backingFormat } = header;
  return ordered({
    ...(backingFile !== null &&
      backingFormat !== null && {
        'backing-filename-format': backingFormat,
      }),
    ...(snapshots.length > 0 && { snapshots: snapshots.map(describeSnapshot) }),
    'virtual-size': layer.size,
    filename: name,
    'cluster-size': layer.clusterSize,
    format: 'qcow2',
    ...actual,
    'format-specific': { type: 'qcow2', data: await describeFormat(layer) },
    ...(backingFile !== null && {
      'full-backing-filename': resolveName(file, backingFile),
      'backing-filename': backingFile,
    }),
    ...(header.cryptMethod !== CRYPT_NONE && { encrypted: true }),
    'dirty-flag': layer.dirty,
  });
}

/** The image that a raw one shows the bytes of. */
function imageBelow(layer: Layer): Qcow2Image | null {
  const image = layer instanceof RawImage ? layer.source.image?.top : undefined;
  return image instanceof Qcow2Image ? image : null;
}

export function describeSnapshot(snapshot: Snapshot): Description {
  const clock = snapshot.vmClockNanoseconds;
  return {
    ...(hasIcount(snapshot) && { icount: Number(snapshot.icount) }),
    'vm-clock-nsec': Number(clock % 1_000_000_000n),
    name: snapshot.name,
    'date-sec': snapshot.seconds,
    'date-nsec': snapshot.nanoseconds,
    'vm-clock-sec': Number(clock / 1_000_000_000n),
    id: snapshot.id,
    'vm-state-size': snapshot.vmStateSize,
  };
}

/** All ones stand for "not recorded". */
function hasIcount({ icount }: Snapshot): boolean {
  return icount !== null && icount !== 0xffff_ffff_ffff_ffffn;
}

async function describeFormat(image: Qcow2Image): Promise<Description> {
  const { header, geometry } = image;
  const common = { 'compression-type': header.compressionType };
  if (header.version === 2) {
    const encrypt = describeEncryption(image);
    return ordered({
      compat: '0.10',
      ...common,
      'refcount-bits': geometry.refcountBits,
      ...encrypt,
    });
  }
  const has = (features: bigint, bit: bigint) => (features & bit) !== 0n;
  const external = has(header.incompatibleFeatures, INCOMPATIBLE.externalDataFile);
  const bitmaps = image.bitmaps.list;
  return ordered({
    compat: '1.1',
    ...common,
    'lazy-refcounts': has(header.compatibleFeatures, COMPATIBLE.lazyRefcounts),
    ...(bitmaps.length > 0 && { bitmaps: bitmaps.map(describeBitmap) }),
    'refcount-bits': geometry.refcountBits,
    ...(external && header.dataFile !== null && { 'data-file': header.dataFile }),
    ...(external && {
      'data-file-raw': has(header.autoclearFeatures, AUTOCLEAR.rawExternalData),
    }),
    ...describeEncryption(image),
    corrupt: image.corrupt,
    'extended-l2': has(header.incompatibleFeatures, INCOMPATIBLE.extendedL2),
  });
}

/** As QEMU walks its dictionaries. */
function ordered(members: Description): Description {
  return Object.fromEntries(
    inTableOrder(Object.keys(members)).map((key) => [key, members[key] as Value]),
  );
}

function describeBitmap({ name, granularity, enabled, inconsistent }: Bitmap): Description {
  const flags = [...(inconsistent ? ['in-use'] : []), ...(enabled ? ['auto'] : [])];
  return { flags, name, granularity };
}

/** Without a LUKS header nothing is said, as by QEMU. */
function describeEncryption({ encryption }: Qcow2Image): Description {
  if (encryption === null) return {};
  if (encryption.format === 'aes') return { encrypt: { format: 'aes' } };
  return encryption.luks === null ? {} : { encrypt: describeLuks(encryption.luks.header) };
}
