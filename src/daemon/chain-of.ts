// The chain that stands under a node, as the engine takes it.

import { Chain, type ChainLayer } from '../chain/chain.ts';
import { protocolOf, resolveName } from '../chain/filename.ts';
import type { Host } from '../io/host.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { BlockNode } from './node.ts';

export interface NodeChain {
  /** The top first, without what jobs have put between. */
  readonly nodes: readonly BlockNode[];
  readonly chain: Chain;
}

export async function chainOf(top: BlockNode, host: Host): Promise<NodeChain> {
  const nodes: BlockNode[] = [];
  const layers: ChainLayer[] = [];
  for (let node: BlockNode | undefined = top; node !== undefined; node = node.backing) {
    layers.push(await layerOf(node, nodes.at(-1), host));
    nodes.push(node);
  }
  return { nodes, chain: new Chain(layers, host) };
}

async function layerOf(
  node: BlockNode,
  above: BlockNode | undefined,
  host: Host,
): Promise<ChainLayer> {
  const { layer, filename: name } = node;
  const { hostFile, formatKnown, source } = node.parts;
  const found = hostFile === undefined ? undefined : await host.identify(hostFile);
  const id = found?.id ?? name;
  const filename = hostFile ?? name;
  const storedName = await storedNameOf(node, above, id, host);
  return {
    layer,
    filename,
    name,
    fileName: source.image?.fileName ?? filename,
    storedName,
    formatKnown,
    id,
  };
}

/** As the header above has it, where that leads here; else a name that does from everywhere. */
async function storedNameOf(
  node: BlockNode,
  above: BlockNode | undefined,
  id: string,
  host: Host,
): Promise<string> {
  const { hostFile } = node.parts;
  const layer = above?.layer;
  const stored = layer instanceof Qcow2Image ? layer.header.backingFile : null;
  if (stored !== null && (await leadsTo(stored, above, id, node.filename, host))) return stored;
  return hostFile === node.filename ? await host.realPath(hostFile) : node.filename;
}

async function leadsTo(
  stored: string,
  above: BlockNode | undefined,
  id: string,
  name: string,
  host: Host,
): Promise<boolean> {
  if (protocolOf(stored) !== null) return stored === name;
  const from = above?.parts.hostFile ?? '';
  return (await host.identify(resolveName(from, stored)))?.id === id;
}
