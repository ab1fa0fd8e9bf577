// The graph of open nodes: by reference, by options, by the headers' word; who may use what with
// whom, and what is locked for it.

import { describe, expect, test } from 'vitest';
import { OptionDict } from '../../src/chain/option-dict.ts';
import { Graph } from '../../src/daemon/graph.ts';
import type { Permission } from '../../src/io/locks.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { MIB } from '../../src/units.ts';

/** base <- mid <- top, in one directory. */
async function chainInMemory(): Promise<MemoryHost> {
  const host = new MemoryHost();
  for (const [name, backing] of [['base'], ['mid', 'base'], ['top', 'mid']]) {
    const storage = await host.createStorage(`/d/${name}.qcow2`);
    const image = await createImage(storage, {
      size: MIB,
      ...(backing && { backingFile: `${backing}.qcow2`, backingFormat: 'qcow2' }),
    });
    await image.close();
  }
  return host;
}

async function openGraph(): Promise<Graph> {
  return new Graph({ host: await chainInMemory(), secrets: new Map() });
}

type Options = Parameters<typeof OptionDict.fromObject>[0];
const add = (graph: Graph, options: Options) => graph.add(OptionDict.fromObject(options));

const file = (name: string, more: Options = {}): Options => ({
  driver: 'file',
  filename: `/d/${name}.qcow2`,
  ...more,
});

async function byReference(): Promise<Graph> {
  const graph = await openGraph();
  const below: Record<string, string | null> = { base: null, mid: 'base', top: 'mid' };
  for (const [name, backing = null] of Object.entries(below)) {
    await add(graph, file(name, { 'node-name': `f${name[0]}` }));
    await add(graph, { driver: 'qcow2', 'node-name': name, file: `f${name[0]}`, backing });
  }
  return graph;
}

const names = (graph: Graph) => graph.nodes.map(({ name }) => name);

describe('nodes by reference', () => {
  test('stand on one another', async () => {
    const graph = await byReference();
    expect(names(graph)).toEqual(['top', 'ft', 'mid', 'fm', 'base', 'fb']);
    const top = graph.lookUp('', 'top');
    expect(top.backing?.name).toBe('mid');
    expect(top.layer.backing).toBe(graph.node('mid')?.layer);
    expect(top.filename).toBe('/d/top.qcow2');
    await graph.close();
    expect(names(graph)).toEqual([]);
  });

  test.each([
    ['base', "Node 'base' is busy: node is used as backing hd of 'mid'"],
    ['fb', 'Block device fb is in use'],
    ['nope', "Failed to find node with node-name='nope'"],
  ])('%s can not be deleted', async (name, words) => {
    const graph = await byReference();
    await expect(graph.remove(name)).rejects.toThrow(words);
    await graph.close();
  });

  test('are deleted from the top', async () => {
    const graph = await byReference();
    for (const name of ['top', 'ft', 'mid', 'base']) await graph.remove(name);
    expect(names(graph)).toEqual(['fm', 'fb']);
    await graph.close();
  });

  test('an exported one is in use', async () => {
    const graph = await byReference();
    const user = await graph.attach(graph.lookUp('', 'top'), { use: ['consistent read'] });
    await expect(graph.remove('top')).rejects.toThrow('Node top is in use');
    await graph.detach(user);
    await graph.remove('top');
    await graph.close();
  });
});

test('a whole chain under a device has names of its own, and goes with it', async () => {
  const graph = await openGraph();
  const described = { filename: '/d/top.qcow2', options: new OptionDict([['driver', 'qcow2']]) };
  const user = await graph.addDevice('drive-virtio-disk0', described);
  expect(user.node.device).toBe('drive-virtio-disk0');
  expect(user.node.name).toMatch(/^#block\d{3}$/);
  expect(graph.nodes).toHaveLength(6);
  expect(user.node.backing?.backing?.readOnly).toBe(true);
  expect(user.node.backing?.parts.storedName).toBe('mid.qcow2');
  await expect(graph.addDevice('drive-virtio-disk0', described)).rejects.toThrow(
    "Device with id 'drive-virtio-disk0' already exists",
  );
  await graph.detach(user);
  expect(graph.nodes).toEqual([]);
});

describe('refused', () => {
  test.each<[string, Options, string]>([
    ['no name', { driver: 'qcow2', file: 'ft' }, "'node-name' must be specified for the root node"],
    ['a name twice', file('top', { 'node-name': 'ft' }), "Duplicate nodes with node-name='ft'"],
    ['a bad name', file('top', { 'node-name': '1x' }), "Invalid node-name: '1x'"],
    [
      'an unknown file node',
      { driver: 'qcow2', 'node-name': 'x', file: 'nope' },
      "Cannot find device='nope' nor node-name='nope'",
    ],
    [
      'an unknown backing node',
      {
        driver: 'qcow2',
        'node-name': 'x',
        'read-only': true,
        file: file('top'),
        backing: 'zz',
      },
      "Could not open backing file: Cannot find device='zz' nor node-name='zz'",
    ],
    [
      'a file that is not there',
      { driver: 'file', 'node-name': 'x', filename: 'nofile' },
      "Could not open 'nofile': No such file or directory",
    ],
    ['no file', { driver: 'qcow2', 'node-name': 'x' }, "Parameter 'file' is missing"],
    [
      'an unknown option',
      { driver: 'qcow2', 'node-name': 'x', file: 'ft', foo: 1 },
      "Parameter 'foo' is unexpected",
    ],
    [
      'a second image over a file',
      { driver: 'qcow2', 'node-name': 'base2', file: 'fb' },
      "Permission conflict on node 'fb': permissions 'write, resize' are both required by node " +
        "'base' (uses node 'fb' as 'file' child) and unshared by node 'base2' (uses node 'fb' as " +
        "'file' child).",
    ],
  ])('%s', async (_, options, words) => {
    const graph = await byReference();
    const before = names(graph);
    await expect(add(graph, options)).rejects.toThrow(words);
    expect(names(graph)).toEqual(before);
    await graph.close();
  });
});

test('who does not let others read keeps them out', async () => {
  const graph = await byReference();
  const mid = graph.lookUp('', 'mid');
  const reader = await graph.attach(mid, { use: ['consistent read'] });
  const share: Permission[] = ['write', 'write unchanged'];
  const job = { who: "commit job 'j'", as: 'intermediate node', use: [], share };
  await expect(graph.attach(mid, job)).rejects.toThrow(
    "Permission conflict on node 'mid': permissions 'consistent read' are both required by an " +
      "unnamed block device (uses node 'mid' as 'root' child) and unshared by commit job 'j' " +
      "(uses node 'mid' as 'intermediate node' child).",
  );
  await graph.detach(reader);
  const user = await graph.attach(mid, job);
  expect(mid.isRoot).toBe(false);
  await graph.detach(user);
  await graph.close();
});
