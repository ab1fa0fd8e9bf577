// LUKS headers and their key slots: there and back, and what a header can't say.

import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../../src/io/crypto.ts';
import { mergeKey, splitKey } from '../../../src/qcow2/encryption/anti-forensic.ts';
import { DIGEST_BYTES, HASHES } from '../../../src/qcow2/encryption/cipher-spec.ts';
import { MAX_ITERATIONS, masterKey } from '../../../src/qcow2/encryption/key-slots.ts';
import {
  encodeLuksHeader,
  LUKS_HEADER_BYTES,
  parseLuksHeader,
} from '../../../src/qcow2/encryption/luks-header.ts';
import { checkNewSpec, newLuksArea } from '../../../src/qcow2/encryption/new-luks.ts';
import { DEFAULT_SPEC, luks, quickHost, utf8 } from '../../support/encrypted.ts';

const newArea = (spec = {}) => {
  const encryption = luks('geheim', spec);
  if (encryption.format !== 'luks') throw new Error('not LUKS');
  return newLuksArea(nodeCrypto, quickHost().now, encryption);
};
const AREA = await newArea();
const unlockArea = (area: Uint8Array, passphrase = 'geheim') =>
  masterKey(nodeCrypto, parseLuksHeader(area), utf8(passphrase), async (offset, length) =>
    area.slice(offset, offset + length),
  );

/** The area with one number changed. */
function patched(offset: number, value: number, bytes: 2 | 4 = 4): Uint8Array {
  const area = AREA.slice();
  const view = new DataView(area.buffer);
  if (bytes === 2) view.setUint16(offset, value);
  else view.setUint32(offset, value);
  return area;
}

describe('the anti-forensic splitter', () => {
  test.each(HASHES)('there and back with %s, keys longer and shorter than it', (hash) => {
    for (const length of [DIGEST_BYTES[hash], 16, 24, 64]) {
      const key = randomBytes(length);
      const material = splitKey(nodeCrypto, hash, key, 7);
      expect(material.length).toBe(7 * length);
      expect(Buffer.from(mergeKey(nodeCrypto, hash, material, 7)).equals(key)).toBe(true);
      material[0] = (material[0] ?? 0) ^ 1;
      expect(Buffer.from(mergeKey(nodeCrypto, hash, material, 7)).equals(key)).toBe(false);
    }
  });
});

test('a header there and back is the same', () => {
  const bytes = AREA.slice(0, LUKS_HEADER_BYTES);
  expect(Buffer.from(encodeLuksHeader(parseLuksHeader(AREA))).equals(bytes)).toBe(true);
});

test('a new header looks like those of QEMU', () => {
  const header = parseLuksHeader(AREA);
  expect(header).toMatchObject({ spec: DEFAULT_SPEC, keyBytes: 64, payloadOffset: 4040 });
  expect(header.keySlots.map(({ active }) => active)).toEqual([true, ...Array(7).fill(false)]);
  expect(header.keySlots.map(({ keyMaterialOffset }) => keyMaterialOffset)).toEqual([
    8, 512, 1016, 1520, 2024, 2528, 3032, 3536,
  ]);
  expect(header.uuid).toMatch(
    /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
  expect(header.keySlots[0]?.iterations).toBe(1000);
});

test('its passphrase opens it, another one does not', async () => {
  expect((await unlockArea(AREA)).length).toBe(64);
  await expect(unlockArea(AREA, 'falsch')).rejects.toMatchObject({
    code: 'invalid',
    message: 'Invalid password, cannot unlock any keyslot',
  });
});

test('a destroyed stripe destroys the key', async () => {
  const area = AREA.slice();
  area.fill(0, 8 * 512 + 1000, 8 * 512 + 1001);
  area[8 * 512 + 1000] = (AREA[8 * 512 + 1000] ?? 0) ^ 1;
  await expect(unlockArea(area)).rejects.toThrow('Invalid password');
});

const SLOT = (index: number, member: number) => 208 + index * 48 + member;

test.each<[string, Uint8Array, string]>([
  ['no LUKS', patched(0, 0), 'Volume is not in LUKS format'],
  ['version 2', patched(6, 2, 2), 'LUKS version 2 is not supported'],
  ['an endless cipher name', patchedText(8, 'x'.repeat(32)), 'LUKS header cipher name is not NUL'],
  ['an endless mode', patchedText(40, 'x'.repeat(32)), 'LUKS header cipher mode is not NUL'],
  ['an endless hash', patchedText(72, 'x'.repeat(32)), 'LUKS header hash spec is not NUL'],
  ['an unknown cipher', patchedText(8, 'foo\0'), "Algorithm 'foo' with key size 32 bytes not"],
  ['a mode of one word', patchedText(40, 'xts\0'), "Unexpected cipher mode string format 'xts'"],
  ['an unknown mode', patchedText(40, 'foo-plain\0'), "Cipher mode 'foo' not supported"],
  ['an unknown generator', patchedText(40, 'xts-foo\0'), "IV generator 'foo' not supported"],
  ['ESSIV without a hash', patchedText(40, 'cbc-essiv\0'), 'not supported'],
  [
    'ESSIV with SHA-1',
    patchedText(40, 'xts-essiv:sha1\0'),
    'No AES cipher with key size 20 available',
  ],
  ['an unknown hash', patchedText(72, 'foo\0'), "Hash algorithm 'foo' not supported"],
  ['a payload in the header', patched(104, 7), 'LUKS payload is overlapping with the header'],
  ['a key of no bytes', patched(108, 0), 'with key size 0 bytes not supported'],
  ['a key of a gigabyte', patched(108, 2 ** 30), 'overlapping with the encrypted payload'],
  ['no iterations for the key', patched(164, 0), 'LUKS key iteration count is zero'],
  ['a slot of no state', patched(SLOT(3, 0), 5), 'Keyslot 3 state (active/disable) is corrupted'],
  ['a slot without iterations', patched(SLOT(0, 4), 0), 'Keyslot 0 iteration count is zero'],
  [
    'a slot in the header',
    patched(SLOT(0, 40), 1),
    'Keyslot 0 is overlapping with the LUKS header',
  ],
  [
    'a slot far away',
    patched(SLOT(2, 40), 0xffffffff),
    'Keyslot 2 is overlapping with the encrypted',
  ],
  [
    'two slots in one place',
    patched(SLOT(2, 40), 8),
    'Keyslots 0 and 2 are overlapping in the header',
  ],
  [
    'too many stripes',
    patched(SLOT(0, 44), 0x7fffffff),
    'Keyslot 0 is corrupted (stripes 2147483647',
  ],
  ['no stripes', patched(SLOT(7, 44), 0), 'Keyslot 7 is corrupted (stripes 0 != 4000)'],
])('%s is refused', (_what, area, message) => {
  expect(() => parseLuksHeader(area)).toThrow(message);
});

function patchedText(offset: number, text: string): Uint8Array {
  const area = AREA.slice();
  area.set(utf8(text), offset);
  return area;
}

test.each<[string, Uint8Array]>([
  ['a slot', patched(SLOT(0, 4), 0xffffffff)],
  ['the master key', patched(164, MAX_ITERATIONS)],
])('%s with too many iterations is refused at once', async (_what, area) => {
  await expect(unlockArea(area)).rejects.toMatchObject({
    code: 'unsupported',
    message: expect.stringContaining(`that is more than ${MAX_ITERATIONS}`),
  });
});

test('a cipher that we do not have is named when it is to be used', async () => {
  const area = patchedText(8, 'serpent\0');
  expect(parseLuksHeader(area).spec.cipher).toBe('serpent-256');
  await expect(unlockArea(area)).rejects.toThrow("The cipher 'serpent-256' is not supported");
});

test.each([
  [{ cipher: 'aes-192', mode: 'cbc' }, "'aes-192' is not supported in mode 'cbc'"],
  [{ cipher: 'twofish-128' }, "The cipher 'twofish-128' is not supported"],
  [{ ivgen: 'essiv', ivgenHash: 'sha1' }, 'No AES cipher with key size 20 available'],
] as const)('new images with %j are refused', (spec, message) => {
  expect(() => checkNewSpec({ ...DEFAULT_SPEC, ...spec })).toThrow(message);
});
