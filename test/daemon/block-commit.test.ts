// block-commit of layers below the active one: who is refused and how, what is told in which order,
// and what the graph and the files are like afterwards.

import { describe, expect, test } from 'vitest';
import { asQcow2 } from '../../src/chain/chain.ts';
import { openChain } from '../../src/chain/open.ts';
import { OptionDict } from '../../src/chain/option-dict.ts';
import type { OnError } from '../../src/commit/job.ts';
import { blockCommit } from '../../src/daemon/block-commit.ts';
import type { Permission } from '../../src/io/locks.ts';
import { addBitmap } from '../../src/qcow2/bitmap-edit.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { MIB } from '../../src/units.ts';
import {
  fileOf,
  HeldHost,
  LiveChain,
  type LiveLayer,
  makeChain,
  RECORDED,
} from '../support/live-chain.ts';
import { expectBytes, expectSoundFile, viewOf, viewThrough } from '../support/memory-images.ts';

const J = { 'job-id': 'j', device: 'top', 'top-node': 'mid' };
const BEGUN = ['created', 'running'];
const ENDED = ['waiting', 'pending', 'COMPLETED', 'concluded', 'null'];

async function backingOf(live: LiveChain, name: string): Promise<unknown> {
  await using chain = await openChain(fileOf(name), { host: live.host, single: true });
  const { layer } = chain.at(0);
  return layer instanceof Qcow2Image && [layer.header.backingFile, layer.header.backingFormat];
}

describe('mid into base', () => {
  test('events in order; top stands on base, in the graph and in its file', async () => {
    const live = await LiveChain.open();
    const view = await viewOf(live.node('top').layer);
    await live.commit(J);
    expect(live.told()).toEqual(BEGUN);
    expect(live.jobs.listBlockJobs()).toMatchObject([
      { device: 'j', len: 8 * MIB, type: 'commit' },
    ]);
    await live.run();
    expect(live.told()).toEqual(ENDED);
    expect(live.node('top').backing?.name).toBe('base');
    expectBytes(await viewOf(live.node('top').layer), view, 'the view through the open top');
    const names = live.graph.nodes.map(({ name }) => name);
    expect(names).toEqual(['top', 'ft', 'mid', 'fm', 'base', 'fb']);
    await live.close();
    expect(await backingOf(live, 'top')).toEqual(['base.qcow2', 'qcow2']);
    expectBytes(await viewThrough(live.host, '/top.qcow2'), view, 'the view afterwards');
    for (const { name } of RECORDED) await expectSoundFile(live.host, fileOf(name));
  });
});

describe('overlays of top', () => {
  const SECOND: LiveLayer = { name: 'second', writes: [[5 * MIB, MIB, 0x55]] };

  /** A second image over mid, opened by reference. */
  async function withSecond(readOnly: boolean): Promise<LiveChain> {
    const host = new HeldHost();
    const [base, mid] = RECORDED;
    if (base && mid) await makeChain(host, [base, mid, SECOND]);
    const live = await LiveChain.open(RECORDED, host);
    const file = { driver: 'file', filename: '/second.qcow2' };
    const settings = { 'node-name': 'second', 'read-only': readOnly };
    await live.add({ driver: 'qcow2', ...settings, file, backing: 'mid' });
    return live;
  }

  test.each([false, true])('all that are open are relinked (read-only: %s)', async (readOnly) => {
    const live = await withSecond(readOnly);
    const views = [await viewOf(live.node('top').layer), await viewOf(live.node('second').layer)];
    await live.commit(J);
    await live.run();
    expect(live.told()).toEqual([...BEGUN, ...ENDED]);
    expect(live.node('second').backing?.name).toBe('base');
    expect(live.node('second').readOnly).toBe(readOnly);
    await live.graph.remove('mid');
    await live.close();
    for (const [i, name] of ['top', 'second'].entries()) {
      expect(await backingOf(live, name)).toEqual(['base.qcow2', 'qcow2']);
      const view = await viewThrough(live.host, fileOf(name));
      expectBytes(view, views[i] ?? new Uint8Array(), name);
    }
  });

  test('where the second header can not be written, it stays on top', async () => {
    const live = await withSecond(false);
    await live.commit({ ...J, 'auto-finalize': false });
    await live.run();
    live.host.failsIn = '/second.qcow2';
    const filename = live.host.failsIn;
    live.host.arm({ kind: 'write', filename, n: 0, errno: 'EIO', forever: true });
    live.take();
    await live.jobs.byId('j').finalize();
    expect(live.told()).toEqual(['aborting', 'COMPLETED Input/output error', 'concluded', 'null']);
    live.host.arm(undefined);
    // The latest user of mid is the first to be moved.
    const stands = ['top', 'second'].map((name) => live.node(name).backing?.name);
    expect(stands).toEqual(['mid', 'mid']);
    await live.close();
    expect(await backingOf(live, 'second')).toEqual(['mid.qcow2', 'qcow2']);
  });

  test('a name is stored as it was given', async () => {
    const live = await LiveChain.open();
    await live.commit({ ...J, 'backing-file': './base.qcow2' });
    await live.run();
    await live.close();
    expect(await backingOf(live, 'top')).toEqual(['./base.qcow2', 'qcow2']);
  });

  test('a name that has no room is refused before anything is written', async () => {
    const live = await LiveChain.open();
    const before = live.host.fileBytes('/base.qcow2') ?? new Uint8Array();
    const name = 'x'.repeat(1024);
    await expect(live.commit({ ...J, 'backing-file': name })).rejects.toThrow('no room');
    expect(live.told()).toEqual(['created', 'null']);
    expect(live.node('mid').isRoot && live.node('top').isRoot).toBe(false);
    await live.close();
    expectBytes(live.host.fileBytes('/base.qcow2') ?? new Uint8Array(), before);
  });
});

describe('meanwhile', () => {
  async function running(): Promise<LiveChain> {
    const live = await LiveChain.open();
    await live.commit({ ...J, speed: 65_536, 'filter-node-name': 'cf' });
    await live.quiet();
    return live;
  }

  test.each([
    ['mid', 'Node mid is in use'],
    ['top', "Node 'top' is busy: block device is in use by block job: commit"],
    ['cf', "Node 'cf' is busy: node is used as backing hd of 'top'"],
    ['base', 'Node base is in use'],
    ['fm', 'Block device fm is in use'],
  ])('%s is not deleted', async (name, words) => {
    const live = await running();
    await expect(live.graph.remove(name)).rejects.toThrow(words);
    await live.close();
  });

  test('nobody else reads a layer between, or writes base; base is read', async () => {
    const live = await running();
    const attach = (name: string, use: readonly Permission[]) =>
      live.graph.attach(live.node(name), { use });
    const unnamed = (name: string) =>
      `an unnamed block device (uses node '${name}' as 'root' child)`;
    await expect(attach('mid', ['consistent read'])).rejects.toThrow(
      "Permission conflict on node 'mid': permissions 'consistent read' are both required by " +
        `${unnamed('mid')} and unshared by commit job 'j' (uses node 'mid' as 'intermediate ` +
        "node' child).",
    );
    await expect(attach('base', ['consistent read', 'write'])).rejects.toThrow(
      "Permission conflict on node 'base': permissions 'write' are both required by " +
        `${unnamed('base')} and unshared by ${unnamed('base')}.`,
    );
    await attach('base', ['consistent read']);
    await attach('top', ['consistent read', 'write']);
    await live.close();
  });

  test('a second job on the same nodes is refused', async () => {
    const live = await running();
    await expect(live.commit({ ...J, 'job-id': 'k' })).rejects.toThrow('Need a root block node');
    await live.close();
  });

  test('the filter is a node, and goes with the job', async () => {
    const live = await running();
    expect(live.graph.nodes.map(({ name, driver }) => `${name} ${driver}`)[0]).toBe(
      'cf commit_top',
    );
    expect(live.node('top').child('backing')?.name).toBe('cf');
    expect(live.node('top').backing?.name).toBe('mid');
    await live.jobs.byId('j').cancel();
    expect(live.graph.node('cf')).toBeUndefined();
    expect(live.node('top').child('backing')?.name).toBe('mid');
    expect(live.node('base').users.map(({ who }) => who)).toEqual(["node 'mid'"]);
    await live.close();
  });
});

test('who reads through top goes on with base', async () => {
  const live = await LiveChain.open();
  const moves: string[] = [];
  const reader = await live.graph.attach(live.node('mid'), {
    use: ['consistent read'],
    onMove: async ({ name }) => void moves.push(name),
  });
  await live.commit(J);
  await live.run();
  expect([moves, reader.node.name]).toEqual([['base'], 'base']);
  await live.graph.detach(reader);
  await live.close();
});

test('an export of a layer between keeps the job from starting', async () => {
  const layers: LiveLayer[] = ['base', 'low', 'mid', 'top'].map((name) => ({ name }));
  const live = await LiveChain.open(layers);
  const reader = await live.graph.attach(live.node('low'), { use: ['consistent read'] });
  await expect(live.commit(J)).rejects.toThrow(
    "Permission conflict on node 'low': permissions 'consistent read' are both required by an " +
      "unnamed block device (uses node 'low' as 'root' child) and unshared by commit job 'j' " +
      "(uses node 'low' as 'intermediate node' child).",
  );
  expect(live.told()).toEqual(['created', 'null']);
  await live.graph.detach(reader);
  await live.commit(J);
  await live.close();
});

test('an image beside the chain that stands on base keeps it from starting, but not in QEMU', async () => {
  const live = await LiveChain.open();
  const file = { driver: 'file', filename: '/top.qcow2', 'read-only': true };
  const settings = { 'node-name': 'beside', 'read-only': true };
  await live.add({ driver: 'qcow2', ...settings, file, backing: 'base' });
  await expect(live.commit(J)).rejects.toThrow("Node 'beside' stands on 'base', too");
  await blockCommit({ ...live, asQemu: true }, J);
  await live.close();
});

test('nodes that were there for the chain alone are gone afterwards', async () => {
  const live = await LiveChain.openDevice('d', RECORDED);
  expect(live.graph.nodes).toHaveLength(6);
  await live.commit({ device: 'd', top: 'mid.qcow2' });
  expect(live.graph.device('d')?.backing?.backing?.readOnly).toBe(false);
  await live.run();
  expect(live.graph.nodes).toHaveLength(4);
  expect(live.graph.device('d')?.backing?.filename).toBe('/base.qcow2');
  expect(live.graph.device('d')?.backing?.readOnly).toBe(true);
  await live.close();
});

test('the active layer is refused before a byte is written', async () => {
  const live = await LiveChain.open();
  for (const args of [{}, { 'top-node': 'top' }, { top: '/top.qcow2' }]) {
    await expect(live.commit({ 'job-id': 'j', device: 'top', ...args })).rejects.toThrow(
      'is the active layer',
    );
  }
  expect(live.told()).toEqual([]);
  await live.close();
});

describe('time', () => {
  test('bytes that are copied count for the speed, others do not', async () => {
    const live = await LiveChain.open();
    const start = live.host.now();
    await live.commit({ ...J, speed: MIB });
    await live.run();
    const seconds = (live.host.now() - start) / 1000;
    // 2 MiB of 8; the last piece is not waited for.
    expect(seconds).toBeGreaterThanOrEqual(1.4);
    expect(seconds).toBeLessThan(2.3);
    await live.close();
  });

  test('another speed counts at once', async () => {
    const live = await LiveChain.open();
    await live.commit({ ...J, speed: 1024 });
    await live.quiet();
    live.jobs.byDevice('j').setSpeed(0);
    await live.quiet();
    expect(live.told().at(-1)).toBe('null');
    await live.close();
  });
});

describe('errors', () => {
  const full = async (onError: OnError) => {
    const live = await LiveChain.open();
    await live.commit({ ...J, 'on-error': onError });
    live.host.failsIn = '/base.qcow2';
    const filename = live.host.failsIn;
    live.host.arm({ kind: 'write', filename, n: 0, errno: 'ENOSPC', forever: true });
    await live.quiet();
    return live;
  };

  test.each(['stop', 'enospc', 'auto'] as const)(
    '%s: it goes on when there is room',
    async (each) => {
      const live = await full(each);
      expect(live.told()).toEqual([...BEGUN, 'ERROR write stop', 'paused']);
      expect(live.jobs.listBlockJobs()).toMatchObject([{ 'io-status': 'nospace', paused: true }]);
      live.host.arm(undefined);
      live.jobs.byDevice('j').resume();
      await live.run();
      expect(live.told()).toEqual(['running', ...ENDED]);
      await live.close();
      await expectSoundFile(live.host, '/base.qcow2');
    },
  );

  test('ignore: it tries again, more and more seldom', async () => {
    const live = await full('ignore');
    for (let i = 0; i < 100; i++) {
      live.host.advance(100);
      await live.quiet();
    }
    const tries = live.told().filter((each) => each === 'ERROR write ignore').length;
    expect(tries).toBeGreaterThan(4);
    expect(tries).toBeLessThan(12);
    live.host.arm(undefined);
    await live.run();
    expect(live.told()).toEqual(ENDED);
    await live.close();
  });

  test('report: it fails, and base is sound', async () => {
    const live = await full('report');
    expect(live.told()).toEqual([
      ...[...BEGUN, 'ERROR write report', 'aborting'],
      ...['COMPLETED No space left on device', 'concluded', 'null'],
    ]);
    live.host.arm(undefined);
    expect(live.node('top').backing?.name).toBe('mid');
    await live.commit(J);
    await live.run();
    expect(live.told()).toEqual([...BEGUN, ...ENDED]);
    await live.close();
    await expectSoundFile(live.host, '/base.qcow2');
  });
});

test('the end of the daemon cancels what runs, rests or waits to be finalized', async () => {
  for (const order of ['none', 'pause', 'pending'] as const) {
    const live = await LiveChain.open();
    const speed = order === 'pending' ? 0 : 65_536;
    await live.commit({ ...J, speed, 'auto-finalize': false, 'auto-dismiss': false });
    await live.quiet();
    if (order === 'pause') live.jobs.byId('j').pause();
    live.take();
    await live.jobs.endAll();
    const woken = order === 'pause' ? ['paused', 'running'] : [];
    const told = live.told().filter((each) => each !== 'paused' || order === 'pause');
    expect(told).toEqual([...woken.slice(1), 'aborting', 'CANCELLED', 'concluded', 'null']);
    expect(live.jobs.list()).toEqual([]);
    await live.graph.close();
  }
});

test('a bitmap of the active layer goes on recording over base', async () => {
  const host = new HeldHost();
  await makeChain(host, RECORDED);
  {
    await using chain = await openChain('/top.qcow2', { host, writable: true });
    const image = asQcow2(chain.top);
    await image.changeBitmaps(async (bitmaps) => addBitmap(bitmaps, image, 'b', 65_536));
  }
  const live = new LiveChain(host);
  const options = new OptionDict([['driver', 'qcow2']]);
  const { node } = await live.graph.addDevice('d', { filename: '/top.qcow2', options });
  await node.layer.write(0, new Uint8Array(65_536).fill(1));
  await live.commit({ device: 'd', top: 'mid.qcow2' });
  await node.layer.write(MIB, new Uint8Array(65_536).fill(2));
  await live.run();
  expect(live.told().at(-1)).toBe('null');
  await node.layer.write(7 * MIB, new Uint8Array(65_536).fill(3));
  await live.close();

  await using chain = await openChain('/top.qcow2', { host });
  const { bitmaps } = asQcow2(chain.top);
  const bitmap = bitmaps.find('b');
  expect(bitmap).toMatchObject({ enabled: true, inconsistent: false });
  const dirty: unknown[] = [];
  if (bitmap) for await (const some of bitmaps.stretchesOf(bitmap)) dirty.push(...some);
  expect(dirty).toEqual([0, MIB, 7 * MIB].map((start) => [start, start + 65_536]));
});

test('a header leads to base from its own directory', async () => {
  const host = new HeldHost();
  const make = async (name: string, backingFile?: string) => {
    const backing = backingFile !== undefined && { backingFile, backingFormat: 'qcow2' };
    await (await createImage(await host.createStorage(name), { size: MIB, ...backing })).close();
  };
  await make('/low/base.qcow2');
  await make('/low/mid.qcow2', 'base.qcow2');
  await make('/high/top.qcow2', '../low/mid.qcow2');
  const live = new LiveChain(host);
  const options = new OptionDict([['driver', 'qcow2']]);
  await live.graph.addDevice('d', { filename: '/high/top.qcow2', options });
  await live.commit({ device: 'd', top: '/low/mid.qcow2' });
  await live.run();
  expect(live.told().at(-1)).toBe('null');
  await live.close();
  const { backingFile } = await Qcow2Image.readHeader(
    await host.openStorage('/high/top.qcow2', { writable: false }),
  );
  expect(backingFile).toBe('../low/base.qcow2');
});
