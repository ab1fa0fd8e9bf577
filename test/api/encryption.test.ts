// Encrypted images through the library: made, opened with their passphrases, committed.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  checkImage,
  commit,
  createImage,
  type NewEncryption,
  nodeHost,
  openChain,
  trustingHost,
} from '../../src/index.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const described = (filename: string, name: string, backing?: object) =>
  ({
    driver: 'qcow2',
    encrypt: { 'key-secret': name },
    file: { driver: 'file', filename },
    ...backing,
  }) as never;

test.each<NewEncryption>([
  { format: 'luks', passphrase: 'geheim', iterTime: 0 },
  { format: 'aes', passphrase: Buffer.from('geheim') },
])('a new image with %j is read by QEMU', async (encryption) => {
  const dir = tempDir();
  const file = join(dir, 'new.qcow2');
  {
    await using chain = await createImage(file, { size: 100 * 512, encryption });
    await chain.write(1000, new Uint8Array(3000).fill(7));
  }
  const opts = 'driver=qcow2,encrypt.key-secret=s,file.filename=new.qcow2';
  const object = ['--object', 'secret,id=s,data=geheim'];
  const commands = ['-c', 'read -P 7 1000 3000', '-c', 'read -P 0 4000 47200'];
  const read = await mustIn(dir, 'qemu-io', ...object, ...commands, '--image-opts', opts);
  expect(read).not.toMatch(/failed/);
  expect((await checkImage(file)).corruptions).toBe(0);
});

test('passphrases belong to layers by name; without them an image is refused or described', async () => {
  const dir = tempDir();
  const [base, top] = [join(dir, 'base.qcow2'), join(dir, 'top.qcow2')];
  const size = 64 * 1024;
  const slow = { format: 'luks', iterTime: 0 } as const;
  await (await createImage(base, { size, encryption: { ...slow, passphrase: 'one' } })).close();
  const below = `json:${JSON.stringify(described(base, 'b'))}`;
  const secrets = { b: 'one', t: 'two' };
  const host = trustingHost(nodeHost, { protocols: true });
  {
    const encryption = { ...slow, passphrase: 'two', cipher: 'aes-128', mode: 'cbc' } as const;
    const options = { size, backingFile: below, backingFormat: 'qcow2', secrets, host } as const;
    await using chain = await createImage(top, { ...options, encryption });
    await chain.write(5, new Uint8Array(10).fill(9));
  }
  await commit(described(top, 't'), { secrets, host });
  {
    await using chain = await openChain(described(base, 'b'), { secrets });
    const bytes = new Uint8Array(20);
    await chain.read(0, bytes);
    expect([...bytes]).toEqual([...Array(5).fill(0), ...Array(10).fill(9), ...Array(5).fill(0)]);
  }
  const refused = (message: string) => ({
    code: 'invalid',
    message: expect.stringContaining(message),
  });
  await expect(openChain(base)).rejects.toMatchObject(refused('encrypt.key-secret'));
  const wrong = openChain(described(base, 'b'), { secrets: { b: 'three' } });
  await expect(wrong).rejects.toMatchObject(refused('Invalid password'));
  await using chain = await openChain(base, { describe: true });
  expect(chain.layers[0]?.qcow2?.unsupported).toBe('encryption');
  expect(await chain.layers[0]?.extents().next()).toMatchObject({ value: { kind: 'data' } });
  await expect(chain.read(0, new Uint8Array(1))).rejects.toMatchObject(refused('key-secret'));
});
