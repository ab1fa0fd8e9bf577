// The plan says how much the base needs at most: with the new L1 table of a base that grows, the
// zeros that hide its own backing file, and a larger refcount table.

import { expect, test } from 'vitest';
import { commit } from '../../src/commit/commit.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { type CreateOptions, createImage } from '../../src/qcow2/create.ts';
import { alignUp } from '../../src/units.ts';
import { imageIn } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const MIB = 1024 * 1024;

async function create(host: MemoryHost, name: string, options: CreateOptions): Promise<void> {
  await (await createImage(await host.createStorage(name), options)).close();
}

async function growthOf(host: MemoryHost): Promise<{ planned: number; actual: number }> {
  const before = alignUp(host.fileBytes('/base')?.length ?? 0, 512);
  const { plan } = await commit('/top', { host });
  return { planned: plan.growthBytes, actual: (host.fileBytes('/base')?.length ?? 0) - before };
}

const above = { backingFile: 'base', backingFormat: 'qcow2' };

test('no more space than planned: the L1 table of a base that grows', async () => {
  const host = new MemoryHost();
  await create(host, '/base', { size: MIB, clusterSize: 512 });
  await create(host, '/top', { size: 64 * MIB, ...above });
  const { planned, actual } = await growthOf(host);
  expect(actual).toBeLessThanOrEqual(planned);
});

test('no more space than planned: zeros over a longer backing file of base', async () => {
  const host = new MemoryHost();
  host.addFile('/bottom', pattern(4 * MIB, 1));
  const below = { backingFile: 'bottom', backingFormat: 'raw' };
  await create(host, '/base', { size: MIB, version: 2, ...below });
  await create(host, '/top', { size: 4 * MIB, ...above });
  const { planned, actual } = await growthOf(host);
  expect(actual).toBeLessThanOrEqual(planned);
});

test('no more space than planned: a larger refcount table', async () => {
  const host = new MemoryHost();
  await create(host, '/base', { size: 4 * MIB, clusterSize: 512, refcountBits: 64 });
  const top = await imageIn(await host.createStorage('/top'), { size: 4 * MIB, ...above });
  await top.write(0, pattern(4 * MIB, 1));
  await top.close();
  const { planned, actual } = await growthOf(host);
  expect(actual).toBeLessThanOrEqual(planned);
});
