// What FUA and FLUSH promise: after a power cut at any later moment the bytes are there, whatever else
// was under way; and the image is not corrupt.

import { describe, expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { Disk } from '../../src/daemon/disk.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { CrashHost, filesIn, hostWith, randomFrom } from '../support/crash.ts';
import { turns } from '../support/jittery-host.ts';
import { buildChain, type MemoryLayer, nameOf } from '../support/memory-chains.ts';
import { expectBytes, viewOf } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

/** Each request has one of its own, neither aligned to clusters nor to sectors. */
const SLOT = 700;
const SECTORS = 120;

interface Promised {
  readonly slot: number;
  /** Events of the host by then. */
  readonly at: number;
  readonly bytes: Uint8Array;
}

const layer = (raw: boolean): MemoryLayer => ({
  raw,
  sectors: SECTORS,
  clusterSize: 1024,
  version: 3,
  refcountBits: 16,
  operations: [{ kind: 'write', at: 0.2, length: 9000 }],
});

const CHAINS: readonly [string, readonly MemoryLayer[]][] = [
  ['an overlay', [layer(false), layer(false)]],
  ['a raw file', [layer(true)]],
];

/** Writes and zeros all slots, several at a time; returns what was promised. */
async function use(disk: Disk, host: CrashHost, seed: number): Promise<readonly Promised[]> {
  const random = randomFrom(seed);
  const promised: Promised[] = [];
  const written = new Map<number, Uint8Array>();
  const requests: Promise<void>[] = [];
  for (let slot = 0; (slot + 1) * SLOT <= disk.size; slot++) {
    const fua = random(4) === 0;
    const isZero = random(4) === 0;
    const bytes = isZero ? new Uint8Array(SLOT) : pattern(SLOT, slot + seed);
    const work = isZero
      ? disk.zero(slot * SLOT, SLOT, { fua })
      : disk.write(slot * SLOT, bytes, { fua });
    requests.push(
      work.then(() => {
        written.set(slot, bytes);
        if (fua) promised.push({ slot, at: host.length, bytes });
      }),
    );
    if (random(6) === 0) {
      const before = [...written];
      requests.push(
        disk.flush().then(() => {
          for (const [each, content] of before) {
            promised.push({ slot: each, at: host.length, bytes: content });
          }
        }),
      );
    }
    if (random(3) === 0) await turns(random(4));
  }
  await Promise.all(requests);
  return promised;
}

describe.each(CHAINS)('after a power cut, of %s', (_what, layers) => {
  test.each([1, 2, 3])('what was promised is there (seed %i)', async (seed) => {
    const before = new MemoryHost();
    const names = await buildChain(before, layers);
    const host = new CrashHost(filesIn(before, names));
    const top = nameOf(layers.length - 1);
    const format = layers.at(-1)?.raw ? 'raw' : 'qcow2';
    const chain = await openChain(top, { host, writable: true, format });
    const promised = await use(new Disk(chain.top), host, seed);
    expect(promised.length).toBeGreaterThan(20);
    for (const { at, files } of host.states(2, randomFrom(seed))) {
      await using found = await openChain(top, { host: hostWith(files), format });
      const view = await viewOf(found.top);
      for (const { slot, bytes } of promised.filter((each) => each.at <= at)) {
        const offset = slot * SLOT;
        expectBytes(view.subarray(offset, offset + SLOT), bytes, `slot ${slot} after ${at} events`);
      }
    }
  });
});
