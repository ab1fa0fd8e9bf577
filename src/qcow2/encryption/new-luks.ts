// A new LUKS header with one key slot, as QEMU and cryptsetup lay it out.

import { ImageError } from '../../errors.ts';
import type { Crypto } from '../../io/host.ts';
import { divideUp, SECTOR } from '../../units.ts';
import {
  type CipherSpec,
  checkCipher,
  checkEssiv,
  fillsSectors,
  DIGEST_BYTES as HASH_BYTES,
  keyBytesOf,
} from './cipher-spec.ts';
import { MAX_ITERATIONS, masterKeyDigest, sealSlot } from './key-slots.ts';
import {
  DIGEST_BYTES,
  encodeLuksHeader,
  type KeySlot,
  type LuksHeader,
  SALT_BYTES,
  STRIPES,
  standardPlaces,
} from './luks-header.ts';

export interface NewLuksOptions {
  readonly spec: CipherSpec;
  readonly passphrase: Uint8Array;
  /** What opening the slot shall take on a machine like this, in milliseconds. */
  readonly iterTime: number;
}

/** What everything about a key slot takes at least, however slow the machine. */
const MAX_U32 = 2 ** 32 - 1;
const LEAST_ITERATIONS = 1000;
/** The master key has less to fear than a passphrase. */
const MASTER_KEY_SHARE = 1 / 8;

/** Throws for a cipher that can't be used. */
export function checkNewSpec(spec: CipherSpec): void {
  checkEssiv(spec);
  checkCipher(spec);
  if (fillsSectors(keyBytesOf(spec) * STRIPES)) return;
  throw new ImageError(
    'unsupported',
    `The cipher '${spec.cipher}' is not supported in mode '${spec.mode}': nobody could open it`,
  );
}

/** Bytes that the header takes with the room for all of its key material. */
export function luksAreaBytes(spec: CipherSpec): number {
  return standardPlaces(keyBytesOf(spec)).payloadOffset * SECTOR;
}

/** The bytes of the header's whole area. `now`: milliseconds, to measure the machine. */
export async function newLuksArea(
  crypto: Crypto,
  now: () => number,
  { spec, passphrase, iterTime }: NewLuksOptions,
): Promise<Uint8Array> {
  checkNewSpec(spec);
  const keyBytes = keyBytesOf(spec);
  const key = crypto.randomBytes(keyBytes);
  const perSecond = await measure(crypto, now, spec);
  // One hash after the other for each piece of its length that the key has.
  const iterations = (length: number, share: number): number =>
    scaled((perSecond / divideUp(length, HASH_BYTES[spec.hash])) * share, iterTime);
  const places = standardPlaces(keyBytes);
  const keySlots = places.keyMaterialOffsets.map(
    (keyMaterialOffset, i): KeySlot => ({
      active: i === 0,
      iterations: i === 0 ? iterations(keyBytes, 1) : 0,
      salt: i === 0 ? crypto.randomBytes(SALT_BYTES) : new Uint8Array(SALT_BYTES),
      keyMaterialOffset,
      stripes: STRIPES,
    }),
  );
  const parts = {
    spec,
    keyBytes,
    payloadOffset: places.payloadOffset,
    mkDigestSalt: crypto.randomBytes(SALT_BYTES),
    mkDigestIterations: iterations(DIGEST_BYTES, MASTER_KEY_SHARE),
    uuid: newUuid(crypto),
    keySlots,
  };
  const mkDigest = await masterKeyDigest(crypto, parts, key);
  return await assemble(crypto, { ...parts, mkDigest }, passphrase, key);
}

async function assemble(
  crypto: Crypto,
  header: LuksHeader,
  passphrase: Uint8Array,
  key: Uint8Array,
): Promise<Uint8Array> {
  const area = new Uint8Array(header.payloadOffset * SECTOR);
  area.set(encodeLuksHeader(header));
  const slot = header.keySlots.find(({ active }) => active);
  if (slot !== undefined) {
    const material = await sealSlot(crypto, header, slot, passphrase, key);
    area.set(material, slot.keyMaterialOffset * SECTOR);
  }
  return area;
}

function scaled(perSecond: number, milliseconds: number): number {
  // A negative number stands for one of 64 bits without a sign.
  if (milliseconds < 0) throw outOfRange(perSecond, 'too large to scale');
  const iterations = Math.floor((perSecond * milliseconds) / 1000);
  if (iterations > MAX_U32) throw outOfRange(iterations, `larger than ${MAX_U32}`);
  if (iterations > MAX_ITERATIONS) {
    throw new ImageError('invalid', `PBKDF iterations ${iterations} larger than ${MAX_ITERATIONS}`);
  }
  return Math.max(iterations, LEAST_ITERATIONS);
}

function outOfRange(iterations: number, how: string): ImageError {
  const message = `PBKDF iterations ${Math.floor(iterations)} ${how}`;
  return new ImageError('invalid', `${message}: Numerical result out of range`);
}

const FIRST_TRY = 1 << 15;
const LONG_ENOUGH = 200;

/** Iterations in a second, for a key as long as the hash. */
async function measure(crypto: Crypto, now: () => number, { hash }: CipherSpec): Promise<number> {
  const salt = new Uint8Array(SALT_BYTES);
  for (let iterations = FIRST_TRY; ; ) {
    const start = now();
    await crypto.pbkdf2(hash, salt, salt, iterations, HASH_BYTES[hash]);
    const took = Math.max(1, now() - start);
    if (took >= LONG_ENOUGH || iterations >= MAX_ITERATIONS) return (iterations * 1000) / took;
    iterations = Math.min(MAX_ITERATIONS, Math.ceil(iterations * Math.min(10, 300 / took)));
  }
}

/** Random, of version 4. */
function newUuid(crypto: Crypto): string {
  const bytes = crypto.randomBytes(16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
