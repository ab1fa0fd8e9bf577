// The header of LUKS, version 1 ("LUKS On-Disk Format Specification": phdr and its key slots), and
// what of it can't be true. Pure: bytes in, bytes out.

import { ImageError } from '../../errors.ts';
import { alignUp, divideUp, SECTOR } from '../../units.ts';
import { viewOf } from '../fields.ts';
import { type CipherSpec, keyBytesOf, parseCipherSpec } from './cipher-spec.ts';

export const LUKS_HEADER_BYTES = 592;
export const KEY_SLOTS = 8;
/** Any other number would be legal; QEMU knows this one alone. */
export const STRIPES = 4000;
export const DIGEST_BYTES = 20;
export const SALT_BYTES = 32;
/** Key material begins and is padded to this, in sectors: 4 KiB. */
const ALIGNMENT = 4096 / SECTOR;

const MAGIC = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];
const VERSION = 1;
const ACTIVE = 0x00ac_71f3;
const DISABLED = 0x0000_dead;

/** Offsets in bytes; numbers are big-endian. */
const PHDR = {
  version: 6,
  cipherName: 8,
  cipherMode: 40,
  hashSpec: 72,
  payloadOffset: 104,
  keyBytes: 108,
  mkDigest: 112,
  mkDigestSalt: 132,
  mkDigestIterations: 164,
  uuid: 168,
  keySlots: 208,
} as const;
const NAME_BYTES = 32;
const UUID_BYTES = 40;
const SLOT = { active: 0, iterations: 4, salt: 8, keyMaterialOffset: 40, stripes: 44 } as const;
const SLOT_BYTES = 48;

export interface KeySlot {
  readonly active: boolean;
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** In sectors, from the header on. */
  readonly keyMaterialOffset: number;
  readonly stripes: number;
}

export interface LuksHeader {
  readonly spec: CipherSpec;
  /** In sectors. Of no meaning inside of qcow2: the header's own room ends here. */
  readonly payloadOffset: number;
  /** Of the master key. */
  readonly keyBytes: number;
  readonly mkDigest: Uint8Array;
  readonly mkDigestSalt: Uint8Array;
  readonly mkDigestIterations: number;
  readonly uuid: string;
  readonly keySlots: readonly KeySlot[];
}

const corrupt = (message: string) => new ImageError('corrupt', message);

/** Throws QEMU's words for a header that it would not open either. */
export function parseLuksHeader(bytes: Uint8Array): LuksHeader {
  const view = viewOf(bytes);
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) throw corrupt('Volume is not in LUKS format');
  const version = view.getUint16(PHDR.version);
  if (version !== VERSION) {
    throw new ImageError('unsupported', `LUKS version ${version} is not supported`);
  }
  const cipherName = nameAt(bytes, PHDR.cipherName, 'cipher name');
  const cipherMode = nameAt(bytes, PHDR.cipherMode, 'cipher mode');
  const hashSpec = nameAt(bytes, PHDR.hashSpec, 'hash spec');
  const header = {
    payloadOffset: view.getUint32(PHDR.payloadOffset),
    keyBytes: view.getUint32(PHDR.keyBytes),
    mkDigest: bytes.slice(PHDR.mkDigest, PHDR.mkDigest + DIGEST_BYTES),
    mkDigestSalt: bytes.slice(PHDR.mkDigestSalt, PHDR.mkDigestSalt + SALT_BYTES),
    mkDigestIterations: view.getUint32(PHDR.mkDigestIterations),
    uuid: untilNul(bytes.subarray(PHDR.uuid, PHDR.uuid + UUID_BYTES)),
  };
  if (header.payloadOffset < ALIGNMENT) {
    throw corrupt('LUKS payload is overlapping with the header');
  }
  if (header.mkDigestIterations === 0) throw corrupt('LUKS key iteration count is zero');
  const keySlots = Array.from({ length: KEY_SLOTS }, (_, i) =>
    parseSlot(bytes.subarray(PHDR.keySlots + i * SLOT_BYTES)),
  );
  checkSlots(keySlots, header.payloadOffset, header.keyBytes);
  const spec = parseCipherSpec(cipherName, cipherMode, hashSpec, header.keyBytes);
  return { ...header, spec, keySlots };
}

function nameAt(bytes: Uint8Array, offset: number, what: string): string {
  const field = bytes.subarray(offset, offset + NAME_BYTES);
  if (!field.includes(0)) throw corrupt(`LUKS header ${what} is not NUL terminated`);
  return untilNul(field);
}

function untilNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

interface StoredSlot extends KeySlot {
  readonly state: number;
}

function parseSlot(bytes: Uint8Array): StoredSlot {
  const view = viewOf(bytes);
  const state = view.getUint32(SLOT.active);
  return {
    state,
    active: state === ACTIVE,
    iterations: view.getUint32(SLOT.iterations),
    salt: bytes.slice(SLOT.salt, SLOT.salt + SALT_BYTES),
    keyMaterialOffset: view.getUint32(SLOT.keyMaterialOffset),
    stripes: view.getUint32(SLOT.stripes),
  };
}

/** In QEMU's order: all of one slot, also beside those that follow, before the next. */
function checkSlots(slots: readonly StoredSlot[], payloadOffset: number, keyBytes: number): void {
  const length = materialSectors(keyBytes);
  for (const [i, slot] of slots.entries()) {
    checkSlot(slot, i);
    const start = slot.keyMaterialOffset;
    if (start + length > payloadOffset) {
      throw corrupt(`Keyslot ${i} is overlapping with the encrypted payload`);
    }
    for (const [n, { keyMaterialOffset: other }] of slots.slice(i + 1).entries()) {
      if (start + length > other && other + length > start) {
        throw corrupt(`Keyslots ${i} and ${i + 1 + n} are overlapping in the header`);
      }
    }
  }
}

function checkSlot(slot: StoredSlot, index: number): void {
  if (slot.stripes !== STRIPES) {
    throw corrupt(`Keyslot ${index} is corrupted (stripes ${slot.stripes | 0} != ${STRIPES})`);
  }
  if (slot.keyMaterialOffset < ALIGNMENT) {
    throw corrupt(`Keyslot ${index} is overlapping with the LUKS header`);
  }
  if (slot.state !== ACTIVE && slot.state !== DISABLED) {
    throw corrupt(`Keyslot ${index} state (active/disable) is corrupted`);
  }
  if (slot.active && slot.iterations === 0) {
    throw corrupt(`Keyslot ${index} iteration count is zero`);
  }
}

/** Room of one key's material, in sectors. */
function materialSectors(keyBytes: number): number {
  return alignUp(divideUp(keyBytes * STRIPES, SECTOR), ALIGNMENT);
}

/** Where cryptsetup and QEMU put the key material of each slot, and the end of it all. */
export function standardPlaces(keyBytes: number): {
  readonly keyMaterialOffsets: readonly number[];
  readonly payloadOffset: number;
} {
  const length = materialSectors(keyBytes);
  const places = Array.from({ length: KEY_SLOTS + 1 }, (_, i) => ALIGNMENT + i * length);
  return { keyMaterialOffsets: places.slice(0, KEY_SLOTS), payloadOffset: places[KEY_SLOTS] ?? 0 };
}

export function encodeLuksHeader(header: LuksHeader): Uint8Array {
  const bytes = new Uint8Array(LUKS_HEADER_BYTES);
  const view = viewOf(bytes);
  const text = (offset: number, value: string) =>
    bytes.set(new TextEncoder().encode(value), offset);
  const { cipher, hash } = header.spec;
  bytes.set(MAGIC);
  view.setUint16(PHDR.version, VERSION);
  text(PHDR.cipherName, cipher.replace(/-.*/, ''));
  text(PHDR.cipherMode, modeText(header.spec));
  text(PHDR.hashSpec, hash);
  view.setUint32(PHDR.payloadOffset, header.payloadOffset);
  view.setUint32(PHDR.keyBytes, keyBytesOf(header.spec));
  bytes.set(header.mkDigest, PHDR.mkDigest);
  bytes.set(header.mkDigestSalt, PHDR.mkDigestSalt);
  view.setUint32(PHDR.mkDigestIterations, header.mkDigestIterations);
  text(PHDR.uuid, header.uuid);
  header.keySlots.forEach((slot, i) => {
    const start = PHDR.keySlots + i * SLOT_BYTES;
    view.setUint32(start + SLOT.active, slot.active ? ACTIVE : DISABLED);
    view.setUint32(start + SLOT.iterations, slot.iterations);
    bytes.set(slot.salt, start + SLOT.salt);
    view.setUint32(start + SLOT.keyMaterialOffset, slot.keyMaterialOffset);
    view.setUint32(start + SLOT.stripes, slot.stripes);
  });
  return bytes;
}

function modeText({ mode, ivgen, ivgenHash }: CipherSpec): string {
  return `${mode}-${ivgen}${ivgenHash === null ? '' : `:${ivgenHash}`}`;
}
