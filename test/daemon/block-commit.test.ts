// block-commit of layers below the active one: who is refused and how, what is told in which order,
// and what the graph and the files are like afterwards.

import { describe, expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { MIB } from '../../src/units.ts';
import { fileOf, LiveChain, RECORDED } from '../support/live-chain.ts';
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
