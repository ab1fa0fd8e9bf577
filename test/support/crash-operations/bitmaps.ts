// Persistent bitmaps: edited by name (all or nothing), recording, and brought down by a commit. None is
// lost or made up, and none calls clean what was written since it was cleared.

import { openChain } from '../../../src/chain/open.ts';
import { commit } from '../../../src/commit/commit.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import {
  addBitmap,
  clearBitmap,
  mergeBitmap,
  removeBitmap,
} from '../../../src/qcow2/bitmap-edit.ts';
import type { Bitmaps } from '../../../src/qcow2/bitmaps.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import { bitmapsIn } from '../bitmaps.ts';
import type { Random } from '../crash.ts';
import { eitherScene } from './either.ts';
import { buildLayers, SECTOR } from './layers.ts';
import { type CrashOperation, commandScene, ensure, openState } from './scene.ts';

const RECORDING = ['fine', 'coarse'];
const BITMAPS = [...RECORDING, 'still'];

const bitmapsOf = (host: MemoryHost, name: string) =>
  bitmapsIn(host.fileBytes(name) ?? new Uint8Array());

/** A layer with bitmaps that have dirty bits, under a guest's disk that has been written. */
const build = (random: Random, clusterSize: number, bitmaps: readonly string[] = BITMAPS) =>
  buildLayers([{ name: '/below.raw' }, { name: '/image', clusterSize, bitmaps }], random);

type Edit = (bitmaps: Bitmaps, image: Qcow2Image) => Promise<void>;

/** Flags of several bitmaps lie in one sector here, so that they change together. */
function edit(
  name: string,
  clusterSize: number,
  work: Edit,
  bitmaps: readonly string[] = BITMAPS,
): CrashOperation {
  return {
    name: `bitmap: ${name}, clusters of ${clusterSize}`,
    async prepare(random) {
      return eitherScene(await build(random, clusterSize, bitmaps), {
        async describe(host) {
          const list = bitmapsOf(host, '/image');
          return list.map((each) => `${each.name} ${each.flags} ${each.dirty.join()}`).join('\n');
        },
        async run(host) {
          await using chain = await openChain('/image', { host, writable: true });
          const { top } = chain;
          ensure(top instanceof Qcow2Image, 'not a qcow2 image');
          await top.changeBitmaps((bitmaps) => work(bitmaps, top));
        },
      });
    },
  };
}

const add: Edit = async (bitmaps, image) => addBitmap(bitmaps, image, 'new', 2048);
const removeAll: Edit = async (bitmaps) => {
  for (const { name } of [...bitmaps.list]) removeBitmap(bitmaps, name);
};
const EDITS: Readonly<Record<string, Edit>> = {
  add,
  remove: async (bitmaps) => removeBitmap(bitmaps, 'coarse'),
  clear: async (bitmaps) => clearBitmap(bitmaps, 'still'),
  disable: async (bitmaps) => {
    for (const bitmap of bitmaps.list) bitmap.enabled = false;
  },
  merge: async (_bitmaps, image) => mergeBitmap(image, 'still', image, 'fine'),
  'remove all': removeAll,
};

async function viewOf(host: MemoryHost, name: string): Promise<Uint8Array> {
  await using chain = await openChain(name, { host });
  const view = new Uint8Array(chain.size);
  await chain.read(0, view);
  return view;
}

/** Sectors that are others now; what was not there before was zeros. */
function differing(before: Uint8Array, now: Uint8Array): readonly number[] {
  const old = new Uint8Array(now.length);
  old.set(before);
  const sectors: number[] = [];
  for (let at = 0; at < now.length; at += SECTOR) {
    const same = Buffer.compare(old.subarray(at, at + SECTOR), now.subarray(at, at + SECTOR)) === 0;
    if (!same) sectors.push(at / SECTOR);
  }
  return sectors;
}

/** A commit into a base with bitmaps; `request` may bring those of the top down. */
function commitWith(name: string, request: { bitmaps: boolean; drop: boolean }): CrashOperation {
  return {
    name: `commit: ${name}`,
    async prepare(random) {
      const files = await buildLayers(
        [
          { name: '/base', bitmaps: ['fine', 'still'] },
          { name: '/top', bitmaps: ['fine', 'new'], sectors: 96 + random(2) * 40 },
        ],
        random,
      );
      const old = await viewOf(openState(files), '/base');
      const ofTop = JSON.stringify(bitmapsOf(openState(files), '/top'));
      const before = bitmapsOf(openState(files), '/base');
      const rightIn = async (state: MemoryHost) => {
        const changed = differing(old, await viewOf(state, '/base'));
        const found = bitmapsOf(state, '/base');
        const names = found.map((each) => each.name).join();
        ensure(/^fine,still(,new)?$/.test(names), `base has the bitmaps ${names}`);
        for (const { name, flags, dirty } of found) {
          if (name === 'still') {
            const same = dirty.join() === before.find((each) => each.name === name)?.dirty.join();
            // A disk that grows has all of its bitmaps in use meanwhile.
            ensure(same || (flags & 1) === 1, 'a bitmap that does not record has changed');
          } else if (name === 'fine' && (flags & 1) === 0) {
            const missed = changed.filter((sector) => !dirty.includes(sector));
            ensure(missed.length === 0, `sectors ${missed} were changed and are clean`);
          }
        }
      };
      return commandScene(files, {
        tops: ['/top'],
        run: async (host) => void (await commit('/top', { host, ...request })),
        async judge(state) {
          await rightIn(state);
          ensure(JSON.stringify(bitmapsOf(state, '/top')) === ofTop, "the top's bitmaps changed");
        },
      });
    },
  };
}

/** A guest's writes, stored in between. */
function recording(clusterSize: number): CrashOperation {
  return {
    name: `bitmap: recording, clusters of ${clusterSize}`,
    async prepare(random) {
      const files = await build(random, clusterSize);
      const old = await viewOf(openState(files), '/image');
      const before = bitmapsOf(openState(files), '/image');
      const steps = Array.from({ length: 2 + random(5) }, () => ({
        kind: random(6),
        at: random(90) * SECTOR,
        length: (1 + random(30)) * SECTOR,
      }));
      const run = async (host: Pick<MemoryHost, 'openStorage'>) => {
        await using chain = await openChain('/image', { host: host as MemoryHost, writable: true });
        const { top } = chain;
        ensure(top instanceof Qcow2Image, 'not a qcow2 image');
        for (const { kind, at, length } of steps) {
          const inside = Math.min(length, top.size - at);
          if (kind === 0) await top.flush();
          else if (kind === 1) await top.storeBitmaps();
          else if (kind === 2) await top.zero(at, inside);
          else await top.write(at, new Uint8Array(inside).fill(0x5a));
        }
      };
      const judge = async (state: MemoryHost) => {
        const changed = differing(old, await viewOf(state, '/image'));
        const found = bitmapsOf(state, '/image');
        ensure(found.map(({ name }) => name).join() === BITMAPS.join(), 'a bitmap is lost');
        for (const { name, flags, dirty } of found) {
          if ((flags & 1) === 1) continue;
          const had = before.find((each) => each.name === name)?.dirty ?? [];
          const wanted = RECORDING.includes(name) ? [...had, ...changed] : had;
          const missed = wanted.filter((sector) => !dirty.includes(sector));
          ensure(missed.length === 0, `${name} calls ${missed} clean`);
        }
      };
      return {
        files,
        caller: 'program',
        run,
        judge,
        async finish(state) {
          await run(state);
          await judge(state);
        },
      };
    },
  };
}

export const BITMAP_EDITS = [
  ...Object.entries(EDITS).flatMap(([name, work]) => [edit(name, 512, work)]),
  // With a feature name table: extensions reach past the first sector of the header.
  edit('add the first', 8192, add, []),
  edit('remove all', 8192, removeAll),
  recording(512),
  recording(4096),
];

export const COMMIT_BITMAPS = [
  commitWith('into a base whose bitmaps record', { bitmaps: false, drop: false }),
  commitWith('--bitmaps', { bitmaps: true, drop: false }),
  commitWith('--bitmaps -d', { bitmaps: true, drop: true }),
];
