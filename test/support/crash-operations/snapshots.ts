// Snapshots taken, gone back to and deleted: after a cut there is the state before or the one after,
// whole, and each snapshot shows what it has to.

import { createHash } from 'node:crypto';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { type CreateOptions, createImage } from '../../../src/qcow2/create.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import {
  applySnapshot,
  createSnapshot,
  deleteSnapshot,
} from '../../../src/qcow2/snapshot-changes.ts';
import { pattern } from '../../../src/testing.ts';
import { filesIn, type Random } from '../crash.ts';
import { eitherScene } from './either.ts';
import { type CrashOperation, newHost, openState } from './scene.ts';

const SECTOR = 512;
const SECTORS = 200;
const NOW = { seconds: 1_700_000_000, nanoseconds: 0 };
const SHAPES: readonly Partial<CreateOptions>[] = [
  {},
  { clusterSize: 1024, version: 2 },
  { refcountBits: 8 },
  { refcountBits: 64, clusterSize: 1024 },
  { extendedL2: true, clusterSize: 16384 },
];

const openIn = async (host: Pick<MemoryHost, 'openStorage'>): Promise<Qcow2Image> =>
  Qcow2Image.open(await host.openStorage('/image', { writable: true }));

async function build(random: Random) {
  const host = newHost();
  const shape = SHAPES[random(SHAPES.length)];
  const storage = await host.createStorage('/image');
  const size = SECTORS * SECTOR;
  const image = await createImage(storage, { clusterSize: 512, size, ...shape });
  for (const name of ['a', 'b', undefined]) {
    for (let i = random(3); i < 3; i++) {
      const at = random(SECTORS);
      const count = Math.min(1 + random(60), SECTORS - at);
      await image.write(at * SECTOR, pattern(count * SECTOR, random(1000)));
    }
    if (name !== undefined) await createSnapshot(image, { name, ...NOW });
  }
  await image.close();
  return filesIn(host, ['/image']);
}

/** The disk, the list, and what each snapshot holds. */
async function describe(host: MemoryHost): Promise<string> {
  const names = (await (await openIn(host)).snapshots()).map(({ name }) => name);
  const shown = [`disk ${await diskOf(await openIn(host))}`];
  for (const name of names) {
    const copy = openState(filesIn(host, ['/image']));
    const image = await openIn(copy);
    await applySnapshot(image, name);
    shown.push(`${name} ${await diskOf(image)}`);
  }
  return shown.join('\n');
}

async function diskOf(image: Qcow2Image): Promise<string> {
  const view = new Uint8Array(image.size);
  await image.read(0, view);
  return createHash('sha1').update(view).digest('hex');
}

function snapshot(name: string, work: (image: Qcow2Image) => Promise<void>): CrashOperation {
  return {
    name: `snapshot: ${name}`,
    async prepare(random) {
      return eitherScene(await build(random), {
        describe,
        async run(host) {
          const image = await openIn(host);
          await work(image);
          await image.close();
        },
      });
    },
  };
}

export const SNAPSHOTS = [
  snapshot('take', (image) => createSnapshot(image, { name: 'new', ...NOW })),
  snapshot('go back', (image) => applySnapshot(image, 'a')),
  snapshot('delete', (image) => deleteSnapshot(image, 'a')),
  snapshot('delete the last one', (image) => deleteSnapshot(image, 'b')),
];
