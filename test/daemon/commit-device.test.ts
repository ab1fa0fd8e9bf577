// `commit`: the guest sees what it wrote, before, meanwhile and afterwards; base holds what it saw when its
// requests rested; and what stops it changes nothing that can be seen.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OptionDict } from '../../src/chain/option-dict.ts';
import { blockCommit } from '../../src/daemon/block-commit.ts';
import { commitDevice } from '../../src/daemon/commit-device.ts';
import { DaemonError } from '../../src/daemon/daemon-error.ts';
import { Disk } from '../../src/daemon/disk.ts';
import type { FaultKind } from '../support/faulty-host.ts';
import { fileOf, HeldHost, LiveChain, RECORDED } from '../support/live-chain.ts';
import { type Action, liveCase } from '../support/live-guest.ts';
import { buildChain, nameOf } from '../support/memory-chains.ts';
import { expectBytes, expectSoundFile, viewOf, viewThrough } from '../support/memory-images.ts';
import { pattern } from '../support/storage-contract.ts';

const SEED = 2026;

interface Fault {
  readonly kind: FaultKind;
  readonly n: number;
  readonly forever: boolean;
}

interface Case {
  readonly layers: Parameters<typeof buildChain>[1];
  readonly pieceBytes: number;
  readonly before: readonly Action[];
  readonly after: readonly Action[];
  readonly fault?: Fault;
}

const someCase: fc.Arbitrary<Case> = fc
  .tuple(liveCase, liveCase)
  .map(([{ layers, pieceBytes, actions }, more]) => ({
    ...{ layers, pieceBytes },
    ...{ before: actions.slice(0, 12), after: more.actions.slice(0, 12) },
  }));

const faulty: fc.Arbitrary<Case> = fc
  .tuple(
    someCase,
    fc.record({
      kind: fc.constantFrom<FaultKind>('write', 'write', 'flush', 'resize', 'zero'),
      n: fc.nat(25),
      forever: fc.boolean(),
    }),
  )
  .map(([each, fault]) => ({ ...each, fault }));

async function holds({ layers, pieceBytes, before, after, fault }: Case): Promise<void> {
  const host = new HeldHost();
  const names = await buildChain(host, layers);
  const live = new LiveChain(host);
  live.pieceBytes = pieceBytes;
  const [active, base] = [names.at(-1) ?? '', names.at(-2) ?? ''];
  const options = new OptionDict([['driver', 'qcow2']]);
  const { node } = await live.graph.addDevice('d', { filename: active, options });
  const disk = new Disk(node.layer);
  const use = ['consistent read', 'write'] as const;
  const user = await live.graph.attach(node, { use, hold: () => disk.hold() });
  const model = await viewOf(node.layer);
  let seed = 1;
  const act = async ({ kind, ...rest }: Action): Promise<void> => {
    if (kind === 'flush') return await disk.flush();
    if (!('at' in rest)) return;
    const offset = Math.floor(rest.at * disk.size);
    const length = Math.min(rest.length, disk.size - offset);
    if (kind === 'read') {
      const expected = model.slice(offset, offset + length);
      const bytes = new Uint8Array(length);
      await disk.read(offset, bytes);
      return expectBytes(bytes, expected, `a read at ${offset}`);
    }
    const bytes = kind === 'zero' ? new Uint8Array(length) : pattern(length, seed++);
    model.set(bytes, offset);
    await (kind === 'zero' ? disk.zero(offset, length) : disk.write(offset, bytes));
  };
  const underWay = before.map(act);
  if (fault !== undefined) {
    host.failsIn = base;
    host.arm({ ...fault, filename: base, errno: 'EIO' });
  }
  let shown: Uint8Array | undefined;
  const committing = commitDevice(live, 'd').then(
    () => true,
    (error: unknown) => {
      if (fault === undefined || !(error instanceof DaemonError)) throw error;
      return false;
    },
  );
  // What comes now finds it held, or comes before; either way it is seen in the end.
  underWay.push(...after.map(act));
  const isDone = await committing;
  await Promise.all(underWay);
  host.arm(undefined);
  if (isDone && after.length === 0) shown = model;
  expectBytes(await viewOf(node.layer), model, 'the open view');
  await live.graph.detach(user);
  const closed = await live.close().then(
    () => true,
    () => false,
  );
  if (fault === undefined) expect(closed).toBe(true);
  expectBytes(await viewThrough(host, active), model, 'the view at last');
  if (shown !== undefined) {
    const view = await viewThrough(host, base);
    expectBytes(view.subarray(0, shown.length), shown, 'base');
  }
  if (!closed) return;
  for (const [i, { raw }] of layers.entries()) if (!raw) await expectSoundFile(host, nameOf(i));
}

test('the guest notices nothing', { timeout: 60_000 }, () =>
  fc.assert(fc.asyncProperty(someCase, holds), { seed: SEED, numRuns: 150 }),
);

test('base holds what the guest saw', { timeout: 60_000 }, () => {
  const alone = someCase.map((each) => ({ ...each, after: [] }));
  return fc.assert(fc.asyncProperty(alone, holds), { seed: SEED, numRuns: 100 });
});

test('nothing is lost where base fails', { timeout: 60_000 }, () =>
  fc.assert(fc.asyncProperty(faulty, holds), { seed: SEED, numRuns: 150 }),
);

const words = (work: Promise<void>) =>
  work.then(
    () => '',
    (error: unknown) => (error as DaemonError).message,
  );

describe('is refused', () => {
  test('where there is no such device, or nothing below', async () => {
    const live = await LiveChain.openDevice('d', RECORDED.slice(0, 1));
    expect(await words(commitDevice(live, 'x'))).toBe("Device 'x' not found");
    const alone = "'commit' error for 'd': Operation not supported";
    expect(await words(commitDevice(live, 'd'))).toBe(alone);
    expect(await words(commitDevice(live, 'all'))).toBe('');
    await live.close();
  });

  test('under a job, and not afterwards', async () => {
    const live = await LiveChain.openDevice('d', RECORDED);
    await blockCommit(live, { device: 'd', top: fileOf('mid'), speed: 1 });
    for (const name of ['d', 'all']) {
      const busy = `'commit' error for '${name}': Device or resource busy`;
      expect(await words(commitDevice(live, name))).toBe(busy);
    }
    await live.jobs.all[0]?.cancel();
    await live.quiet();
    expect(await words(commitDevice(live, 'all'))).toBe('');
    await live.close();
  });

  test('where the disk is only read, or base is kept from growing', async () => {
    const live = await LiveChain.open();
    const { graph, host } = live;
    await graph.attach(live.node('top'), { device: 'd', use: ['consistent read', 'write'] });
    const share = ['consistent read', 'write', 'write unchanged'] as const;
    const who = 'an unnamed block device';
    const reader = await graph.attach(live.node('mid'), { who, use: ['consistent read'], share });
    expect(await words(commitDevice(live, 'd'))).toBe(
      `Permission conflict on node 'mid': permissions 'resize' are both required by ${who} (uses ` +
        `node 'mid' as 'root' child) and unshared by ${who} (uses node 'mid' as 'root' child).\n` +
        "'commit' error for 'd': Operation not permitted",
    );
    await graph.detach(reader);
    expect(await words(commitDevice(live, 'd'))).toBe('');
    await live.close();
    const other = new LiveChain(host);
    const options = new OptionDict([
      ['driver', 'qcow2'],
      ['read-only', true],
    ]);
    await other.graph.addDevice('r', { filename: fileOf('top'), options });
    expect(await words(commitDevice(other, 'r'))).toBe(
      "Block node is read-only\n'commit' error for 'r': Operation not permitted",
    );
    await other.close();
  });
});
