// From a passphrase to the master key of a LUKS header, and back: slots are tried in their order.

import { ImageError } from '../../errors.ts';
import type { Crypto } from '../../io/host.ts';
import { SECTOR } from '../../units.ts';
import { mergeKey, splitKey } from './anti-forensic.ts';
import { checkCipher, fillsSectors, sectorCipher } from './cipher-spec.ts';
import { DIGEST_BYTES, type KeySlot, type LuksHeader, STRIPES } from './luks-header.ts';

/** Reads `length` bytes at `offset` from the header on. */
export type ReadKeyMaterial = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * All that one passphrase may cost, some minutes: PBKDF2 can't be stopped once it runs, and a header
 * may ask for hours. By default, slots are made with a few million.
 */
export const MAX_ITERATIONS = 100_000_000;

/** Throws `invalid` where the passphrase opens no slot. */
export async function masterKey(
  crypto: Crypto,
  header: LuksHeader,
  passphrase: Uint8Array,
  readKeyMaterial: ReadKeyMaterial,
): Promise<Uint8Array> {
  checkCipher(header.spec);
  if (!fillsSectors(header.keyBytes * STRIPES)) {
    throw new ImageError(
      'unsupported',
      `Key material of '${header.spec.cipher}' in mode '${header.spec.mode}' is not supported`,
    );
  }
  let left = MAX_ITERATIONS;
  for (const [index, slot] of header.keySlots.entries()) {
    if (!slot.active) continue;
    left -= slot.iterations + header.mkDigestIterations;
    if (left < 0) throw tooManyIterations(index, slot, header);
    const key = await openSlot(crypto, header, slot, passphrase, readKeyMaterial);
    if (key !== undefined) return key;
  }
  throw new ImageError('invalid', 'Invalid password, cannot unlock any keyslot');
}

function tooManyIterations(index: number, slot: KeySlot, header: LuksHeader): ImageError {
  return new ImageError(
    'unsupported',
    `Keyslot ${index} asks for ${slot.iterations} iterations and the master key for ` +
      `${header.mkDigestIterations}: together with the slots before it, that is more than ` +
      `${MAX_ITERATIONS}`,
  );
}

/** Undefined where the passphrase is not that of this slot. */
async function openSlot(
  crypto: Crypto,
  header: LuksHeader,
  slot: KeySlot,
  passphrase: Uint8Array,
  readKeyMaterial: ReadKeyMaterial,
): Promise<Uint8Array | undefined> {
  const { spec, keyBytes } = header;
  const { salt, iterations, stripes, keyMaterialOffset } = slot;
  const slotKey = await crypto.pbkdf2(spec.hash, passphrase, salt, iterations, keyBytes);
  const stored = await readKeyMaterial(keyMaterialOffset * SECTOR, keyBytes * stripes);
  const material = sectorCipher(crypto, spec, slotKey).decrypt(0, stored);
  const key = mergeKey(crypto, spec.hash, material, stripes);
  const digest = await masterKeyDigest(crypto, header, key);
  return digest.every((byte, i) => byte === header.mkDigest[i]) ? key : undefined;
}

export function masterKeyDigest(
  crypto: Crypto,
  header: Pick<LuksHeader, 'spec' | 'mkDigestSalt' | 'mkDigestIterations'>,
  key: Uint8Array,
): Promise<Uint8Array> {
  const { spec, mkDigestSalt, mkDigestIterations } = header;
  return crypto.pbkdf2(spec.hash, key, mkDigestSalt, mkDigestIterations, DIGEST_BYTES);
}

/** What is stored for a slot: the master key, split, encrypted by the passphrase. */
export async function sealSlot(
  crypto: Crypto,
  { spec }: Pick<LuksHeader, 'spec'>,
  { salt, iterations, stripes }: KeySlot,
  passphrase: Uint8Array,
  key: Uint8Array,
): Promise<Uint8Array> {
  const slotKey = await crypto.pbkdf2(spec.hash, passphrase, salt, iterations, key.length);
  const material = splitKey(crypto, spec.hash, key, stripes);
  return sectorCipher(crypto, spec, slotKey).encrypt(0, material);
}
