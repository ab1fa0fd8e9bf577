// A chain as a whole: what is told about who else may stand on it.

import { expect, test } from 'vitest';
import { surveyChain } from '../../src/chain/survey.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { createImage } from '../../src/qcow2/create.ts';

test('a neighbour that can not be read is told of', async () => {
  const host = new MemoryHost();
  for (const name of ['/a/top', '/a/other', '/a/secret']) {
    const storage = await host.createStorage(name);
    await (await createImage(storage, { size: 4096, clusterSize: 512 })).close();
  }
  const open = host.openStorage.bind(host);
  host.openStorage = async (name, options) => {
    if (name !== '/a/secret') return open(name, options);
    throw new ImageError('io', `Could not open '${name}': Permission denied`);
  };
  const survey = await surveyChain('/a/top', { host });
  expect(survey.unread).toEqual(['/a/secret']);
});
