// A host that opens only what is trusted: the rule, over files in memory.

import { describe, expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { trustingHost } from '../../src/chain/trust.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { createImage } from '../../src/qcow2/create.ts';

async function hostWith(backingFile: string): Promise<MemoryHost> {
  const host = new MemoryHost();
  host.addFile('/images/base', new Uint8Array(4096));
  host.addFile('/images-too/base', new Uint8Array(4096));
  const options = { size: 4096, clusterSize: 512, backingFile, backingFormat: 'raw' };
  await (await createImage(await host.createStorage('/images/top'), options)).close();
  return host;
}

const open = async (backingFile: string, trust: Parameters<typeof trustingHost>[1]) => {
  const host = trustingHost(await hostWith(backingFile), trust);
  await (await openChain('/images/top', { host })).close();
};

const refused = { name: 'ImageError', code: 'invalid' };

describe('directories', () => {
  const directories = ['/images'];

  test('what is below one is opened', async () => {
    await open('base', { directories });
    await open('/images/../images/base', { directories });
    await open('file:/images/base', { directories });
  });

  test('what only begins like one is not', async () => {
    await expect(open('/images-too/base', { directories })).rejects.toMatchObject(refused);
    await expect(open('../images-too/base', { directories })).rejects.toMatchObject(refused);
  });

  test('no directory is no file', async () => {
    await expect(open('base', { directories: [] })).rejects.toMatchObject(refused);
  });

  test('nothing outside is created or removed', async () => {
    const host = trustingHost(await hostWith('base'), { directories });
    await expect(host.createStorage('/new')).rejects.toMatchObject(refused);
    await expect(host.remove('/images-too/base')).rejects.toMatchObject(refused);
    await host.remove('/images/base');
  });
});

describe('names with protocols', () => {
  const described = 'json:{"driver": "raw", "file.filename": "/images/base"}';

  test('are not followed, whatever they mean', async () => {
    await expect(open(described, {})).rejects.toMatchObject(refused);
    for (const name of ['nbd:localhost:10809', 'fat:/etc']) {
      await expect(open(name, { protocols: true })).rejects.toMatchObject({ code: 'unsupported' });
    }
  });

  test('are followed where that is allowed, into the directories alone', async () => {
    await open(described, { protocols: true });
    await open(described, { protocols: true, directories: ['/images'] });
    const elsewhere = { protocols: true, directories: ['/images-too'] };
    await expect(open(described, elsewhere)).rejects.toMatchObject(refused);
  });
});
