// The judge is judged: committers that go wrong in small ways do not get past it.

import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { LayerSpec } from '../support/arbitraries.ts';
import type { Case } from '../support/commit-cases.ts';
import { holds } from '../support/commit-property.ts';
import { type CommitRequest, type Committer, libraryCommitter } from '../support/committers.ts';
import { qemuImg, qemuIo } from '../support/qemu.ts';

const layer: LayerSpec = {
  format: 'qcow2',
  sectors: 4096,
  clusterSize: 65536,
  compat: '1.1',
  refcountBits: 16,
  zstd: false,
  lazyRefcounts: false,
  dataFile: 'none',
  extendedL2: false,
  preallocated: false,
  operations: [],
};

const write = (at: number, count: number, seed: number) =>
  ({ kind: 'write', at, count, pattern: { seed, plain: false } }) as const;

/** base <- sn1 <- sn2, sn2 shorter than base, and a snapshot in base. */
const CASE: Case = {
  spec: {
    layers: [
      {
        ...layer,
        operations: [write(0, 4096, 1), { kind: 'snapshot', ours: false }, write(8, 8, 2)],
      },
      { ...layer, operations: [write(100, 300, 3)] },
      { ...layer, sectors: 3000, operations: [write(350, 200, 4)] },
    ],
  },
  form: 'base',
  top: 2,
  base: 0,
  deletes: false,
  compresses: false,
};

/** Ours, and then something that must not happen. */
function then(spoil: (dir: string) => Promise<unknown>): Committer {
  return {
    isCareful: true,
    async commit(dir: string, filename: string, request: CommitRequest) {
      await libraryCommitter.commit(dir, filename, request);
      await spoil(dir);
    },
  };
}

async function poke(file: string, offset: number, byte: number): Promise<void> {
  await using handle = await open(file, 'r+');
  await handle.write(Uint8Array.of(byte), 0, 1, offset);
}

test('the case holds for a commit that does what it should', () => holds(CASE, libraryCommitter));

const WRONG: readonly (readonly [string, Committer, RegExp])[] = [
  ['does nothing', { isCareful: true, commit: () => Promise.resolve() }, /the view through base/],
  [
    'changes a byte past the end of top',
    then((dir) => qemuIo(join(dir, 'base.qcow2'), ['write -P 99 1600000 1'])),
    /the view through base/,
  ],
  [
    'leaves a leak',
    // The refcount of the header, in the first refcount block, where QEMU places it.
    then((dir) => poke(join(dir, 'base.qcow2'), 2 * 65536 + 1, 2)),
    /qemu-img check/,
  ],
  [
    'writes to a layer between',
    // Within the header's cluster, but used by nothing.
    then((dir) => poke(join(dir, 'sn1.qcow2'), 65500, 1)),
    /the file sn1\.qcow2/,
  ],
  [
    'loses a snapshot of base',
    then((dir) => qemuImg('snapshot', '-d', 's0', join(dir, 'base.qcow2'))),
    /snapshot/,
  ],
  [
    'refuses what it could do',
    { isCareful: true, commit: () => Promise.reject(new Error('no')) },
    /no/,
  ],
];

test.each(WRONG)('a commit that %s is found out', async (_what, committer, message) => {
  await expect(holds(CASE, committer)).rejects.toThrow(message);
});
