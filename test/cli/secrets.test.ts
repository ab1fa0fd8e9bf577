// `--object secret,...`: what it takes, and what is wrong with it.

import { createCipheriv, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readSecrets } from '../../src/cli/secrets.ts';
import { makeTemp } from '../support/temp.ts';

const text = (bytes: Uint8Array | undefined) => bytes && new TextDecoder().decode(bytes);
const secretOf = async (...texts: string[]) => text((await readSecrets(texts)).get('s'));

describe('a secret', () => {
  const { dir, cleanup } = makeTemp();
  afterAll(cleanup);
  const file = join(dir, 'secret');
  writeFileSync(file, 'Z2VoZWlt');

  test.each([
    ['secret,id=s,data=geheim', 'geheim'],
    ['qom-type=secret,id=s,data=geheim', 'geheim'],
    ['id=s,data=geheim,qom-type=secret', 'geheim'],
    ['secret,id=s,data=ge,,heim', 'ge,heim'],
    ['secret,id=s,data=', ''],
    ['secret,id=s,data=geheim,format=raw', 'geheim'],
    ['secret,id=s,data=Z2VoZWlt,format=base64', 'geheim'],
    ['secret,id=s,data=Z2Vo\nZWlt\n,format=base64', 'geheim'],
    ['secret,id=s,data=Z2VoZWltZ,format=base64', 'geheim'],
    [`secret,id=s,file=${file}`, 'Z2VoZWlt'],
    [`secret,id=s,file=${file},format=base64`, 'geheim'],
    ['{"qom-type":"secret","id":"s","data":"geheim"}', 'geheim'],
  ])('%j is %j', async (given, expected) => {
    expect(await secretOf(given)).toBe(expected);
  });

  test('may be encrypted by another one', async () => {
    const key = randomBytes(32);
    const iv = randomBytes(16);
    const cipher = createCipheriv('aes-256-cbc', key, iv);
    const stored = Buffer.concat([cipher.update('geheim'), cipher.final()]).toString('base64');
    const keyed = `keyid=k,iv=${iv.toString('base64')},format=base64`;
    const given = [
      `secret,id=k,data=${key.toString('base64')},format=base64`,
      `secret,id=s,data=${stored},${keyed}`,
    ];
    expect(await secretOf(...given)).toBe('geheim');
  });
});

describe('refused, in the words of QEMU', () => {
  const key = `secret,id=k,data=${'k'.repeat(32)}`;
  const iv = Buffer.alloc(16).toString('base64');
  test.each([
    [['iothread,id=x'], "Parameter 'qom-type' does not accept value 'iothread'"],
    [[''], "Parameter 'qom-type' is missing"],
    [[',id=s'], "Invalid parameter ''"],
    [['secret,data=abc'], "Parameter 'id' is missing"],
    [['secret,id=1s,data=x'], "Parameter 'id' expects an identifier"],
    [['secret,id=s'], "Either 'file' or 'data' must be provided"],
    [['secret,id=s,file=a,data=b'], "'file' and 'data' are mutually exclusive"],
    [
      ['secret,id=s,file=/nowhere'],
      'Unable to read /nowhere: Failed to open file “/nowhere”: No such',
    ],
    [['secret,id=s,data=x,format=hex'], "Parameter 'format' does not accept value 'hex'"],
    [['secret,id=s,data=***,format=base64'], 'Base64 data contains invalid characters'],
    [['secret,id=s,data=x,foo=bar'], "Parameter 'foo' is unexpected"],
    [['secret,id=s,data=x,loaded=on'], "Property 'secret.loaded' is not writable"],
    [['secret,id=s,data=x,loaded=quatsch'], "Parameter 'loaded' expects 'on' or 'off'"],
    [
      ['secret,id=s,data=x', 'secret,id=s,data=y'],
      "attempt to add duplicate property 's' to object",
    ],
    [
      ['{"qom-type":"secret","id":"s","data":7}'],
      "Invalid parameter type for 'data', expected: string",
    ],
    [['{"qom-type":"secret"'], 'JSON parse error'],
    [['secret,id=s,data=x,keyid=k'], "No secret with id 'k'"],
    [['secret,id=k,data=abc', 'secret,id=s,data=x,keyid=k'], 'Key should be 32 bytes in length'],
    [[key, 'secret,id=s,data=x,keyid=k'], 'IV is required to decrypt secret'],
    [[key, 'secret,id=s,data=x,keyid=k,iv=aaaa'], 'IV should be 16 bytes in length not 3'],
    [
      [key, `secret,id=s,data=abc,keyid=k,iv=${iv}`],
      'Length 3 must be a multiple of block size 16',
    ],
    [
      [key, `secret,id=s,data=0123456789abcdef,keyid=k,iv=${iv}`],
      'Incorrect number of padding bytes',
    ],
  ])('%j', async (given, message) => {
    await expect(readSecrets(given)).rejects.toMatchObject({
      message: expect.stringContaining(message),
    });
  });
});
