// Modes over blocks, beside vectors of the standard and beside OpenSSL sector by sector.

import { createCipheriv, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../../src/io/crypto.ts';
import type { CipherSpec } from '../../../src/qcow2/encryption/cipher-spec.ts';
import { sectorCipher } from '../../../src/qcow2/encryption/cipher-spec.ts';
import { plain, plain64 } from '../../../src/qcow2/encryption/initial-vectors.ts';
import { xor } from '../../../src/qcow2/encryption/modes.ts';
import { DEFAULT_SPEC } from '../../support/encrypted.ts';

const SECTOR = 512;
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const cipherOf = (spec: Partial<CipherSpec>, key: Uint8Array) =>
  sectorCipher(nodeCrypto, { ...DEFAULT_SPEC, ...spec }, key);

describe('XTS, as IEEE 1619 has it', () => {
  const counting = Uint8Array.from({ length: SECTOR }, (_, i) => i % 256);

  test('vector 4: AES-128, data unit 0', () => {
    const key = '2718281828459045235360287471352631415926535897932384626433832795';
    const cipher = cipherOf({ cipher: 'aes-128' }, Buffer.from(key, 'hex'));
    expect(hex(cipher.encrypt(0, counting)).slice(0, 64)).toBe(
      '27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c',
    );
  });

  test('vector 10: AES-256, data unit 0xff', () => {
    const key =
      '2718281828459045235360287471352662497757247093699959574966967627' +
      '3141592653589793238462643383279502884197169399375105820974944592';
    const cipher = cipherOf({}, Buffer.from(key, 'hex'));
    expect(hex(cipher.encrypt(0xff, counting)).slice(0, 64)).toBe(
      '1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b',
    );
  });
});

const vectorOf = (sector: number) => {
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(BigInt(sector));
  return vector;
};

describe.each([1, 7, 64])('%i sectors at once', (count) => {
  const bytes = randomBytes(count * SECTOR);
  const first = 2 ** 32 - 3;

  test.each<[string, Partial<CipherSpec>, number]>([
    ['aes-128-xts', { cipher: 'aes-128' }, 32],
    ['aes-256-xts', { cipher: 'aes-256' }, 64],
    ['aes-128-cbc', { cipher: 'aes-128', mode: 'cbc' }, 16],
    ['aes-192-cbc', { cipher: 'aes-192', mode: 'cbc' }, 24],
    ['aes-256-cbc', { cipher: 'aes-256', mode: 'cbc' }, 32],
    ['aes-256-ctr', { cipher: 'aes-256', mode: 'ctr' }, 32],
  ])('%s is what OpenSSL makes of each by itself', (name, spec, keyBytes) => {
    const key = randomBytes(keyBytes);
    const expected = Array.from({ length: count }, (_, i) =>
      createCipheriv(name, key, vectorOf(first + i))
        .setAutoPadding(false)
        .update(bytes.subarray(i * SECTOR, (i + 1) * SECTOR)),
    );
    const before = hex(bytes);
    const cipher = cipherOf(spec, key);
    const stored = cipher.encrypt(first, bytes);
    expect(hex(stored)).toBe(hex(Buffer.concat(expected)));
    expect(hex(cipher.decrypt(first, stored))).toBe(before);
    expect(hex(bytes)).toBe(before);
  });

  test.each<[string, Partial<CipherSpec>, number]>([
    ['XTS with AES-192', { cipher: 'aes-192' }, 48],
    ['ECB', { mode: 'ecb' }, 32],
    ['CBC with ESSIV', { mode: 'cbc', ivgen: 'essiv', ivgenHash: 'sha256' }, 32],
    ['CTR with ESSIV', { mode: 'ctr', ivgen: 'essiv', ivgenHash: 'md5' }, 32],
  ])('%s: there and back', (_name, spec, keyBytes) => {
    const cipher = cipherOf(spec, randomBytes(keyBytes));
    const stored = cipher.encrypt(first, bytes);
    expect(stored).not.toEqual(bytes);
    expect(hex(cipher.decrypt(first, stored))).toBe(hex(bytes));
  });
});

test('a counter carries into all of its bytes', () => {
  const key = randomBytes(32);
  const spec = { mode: 'ctr', ivgen: 'essiv', ivgenHash: 'sha256' } as const;
  const essiv = createCipheriv('aes-256-ecb', nodeCrypto.hash('sha256', key), null);
  for (let sector = 0; sector < 300; sector++) {
    const vector = essiv.update(vectorOf(sector));
    const expected = createCipheriv('aes-256-ctr', key, vector).update(new Uint8Array(SECTOR));
    expect(hex(cipherOf(spec, key).encrypt(sector, new Uint8Array(SECTOR)))).toBe(hex(expected));
  }
});

test('vectors count in 64 bits, or in 32', () => {
  expect(hex(plain64(2 ** 32 - 1, 2))).toBe(
    `ffffffff${'00'.repeat(12)}0000000001${'00'.repeat(11)}`,
  );
  expect(hex(plain(2 ** 32 - 1, 2))).toBe(`ffffffff${'00'.repeat(12)}${'00'.repeat(16)}`);
});

test('xor works at any place of a buffer', () => {
  const buffer = Uint8Array.from({ length: 20 }, (_, i) => i);
  const target = buffer.subarray(1, 9);
  xor(
    target,
    Uint8Array.from({ length: 8 }, () => 0xff),
  );
  expect([...target]).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((byte) => byte ^ 0xff));
  expect(buffer[0]).toBe(0);
  expect(buffer[9]).toBe(9);
});
