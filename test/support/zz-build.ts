import { openChain } from '../../src/chain/open.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import { createImage } from '../../src/qcow2/create.ts';

const [dir, sizeTib, every] = [process.argv[2]!, Number(process.argv[3]), Number(process.argv[4])];
const size = sizeTib * 2 ** 40;
for (const [name, below] of [
  ['base', undefined],
  ['top', 'base'],
] as const) {
  const s = await nodeHost.createStorage(`${dir}/${name}`);
  await (
    await createImage(s, {
      size,
      clusterSize: 65536,
      ...(below && { backingFile: below, backingFormat: 'qcow2' }),
    })
  ).close();
}
const chain = await openChain(`${dir}/top`, { host: nodeHost, writable: true, cache: 'unsafe' });
const C = 65536;
for (let table = 0; table < size / (512 * 2 ** 20); table++) {
  const at = table * 512 * 2 ** 20;
  if (every === 0) await chain.top.zero(at, 82 * C);
  else for (let i = 0; i < 82; i++) await chain.top.zero(at + i * every * C, C);
}
await chain.close();
