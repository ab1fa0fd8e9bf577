// Which layers a block-commit is about: the checks that come before there is a job, in QEMU's order and
// words.

import { Chain } from '../chain/chain.ts';
import type { OnError } from '../commit/job.ts';
import { chainOf } from './chain-of.ts';
import { DaemonError } from './daemon-error.ts';
import type { Graph } from './graph.ts';
import type { BlockNode } from './node.ts';
import { cumulated } from './permissions.ts';

/** As QMP has them. */
export interface BlockCommitArguments {
  readonly 'job-id'?: string;
  readonly device: string;
  readonly 'base-node'?: string;
  readonly base?: string;
  readonly 'top-node'?: string;
  readonly top?: string;
  readonly 'backing-file'?: string;
  /** Hides in names what protocols they go by. Ours show none. */
  readonly 'backing-mask-protocol'?: boolean;
  readonly speed?: number;
  readonly 'on-error'?: OnError;
  readonly 'filter-node-name'?: string;
  readonly 'auto-finalize'?: boolean;
  readonly 'auto-dismiss'?: boolean;
}

export interface CommitRange {
  /** Whose disk it is. */
  readonly active: BlockNode;
  readonly chain: Chain;
  /** As in the chain, the active layer first. */
  readonly nodes: readonly BlockNode[];
  readonly topIndex: number;
  readonly baseIndex: number;
  /** Top is the active layer, or somebody writes to it. */
  readonly isActive: boolean;
}

export async function findCommitRange(
  graph: Graph,
  args: BlockCommitArguments,
): Promise<CommitRange> {
  const active = activeNode(graph, args.device);
  const { nodes, chain } = await chainOf(active, graph.host);
  const topIndex = await topIn(graph, nodes, chain, args);
  const baseIndex = await baseIn(graph, nodes, chain, topIndex, args);
  if (topIndex === baseIndex) throw new DaemonError('cannot commit an image into itself');
  const isWritten = cumulated(nodes[topIndex]?.users ?? []).use.includes('write');
  const isActive = topIndex === 0 || isWritten;
  if (isActive && args['backing-file'] !== undefined) {
    throw new DaemonError(
      topIndex === 0
        ? "'backing-file' specified, but 'top' is the active layer"
        : "'backing-file' specified, but 'top' has a writer on it",
    );
  }
  return { active, chain, nodes, topIndex, baseIndex, isActive };
}

function activeNode(graph: Graph, device: string): BlockNode {
  const node = graph.device(device) ?? graph.node(device);
  if (node === undefined) {
    // Clients find out by its class what is there at all.
    throw new DaemonError(`Device '${device}' not found`, 'DeviceNotFound');
  }
  if (!node.isRoot) throw new DaemonError('Need a root block node');
  return node;
}

async function topIn(
  graph: Graph,
  nodes: readonly BlockNode[],
  chain: Chain,
  { top, 'top-node': topNode }: BlockCommitArguments,
): Promise<number> {
  if (topNode !== undefined && top !== undefined) {
    throw new DaemonError("'top-node' and 'top' are mutually exclusive");
  }
  if (topNode !== undefined) return indexOf(graph, nodes, 0, topNode);
  if (top === undefined || top === nodes[0]?.filename) return 0;
  const found = await chain.find(top);
  if (found === undefined) throw new DaemonError(`Top image file ${top} not found`);
  return found;
}

async function baseIn(
  graph: Graph,
  nodes: readonly BlockNode[],
  chain: Chain,
  topIndex: number,
  { base, 'base-node': baseNode }: BlockCommitArguments,
): Promise<number> {
  if (baseNode !== undefined && base !== undefined) {
    throw new DaemonError("'base-node' and 'base' are mutually exclusive");
  }
  if (baseNode !== undefined) return indexOf(graph, nodes, topIndex, baseNode);
  if (base === undefined) {
    if (nodes.length === 1) throw new DaemonError('There is no backing image');
    return nodes.length - 1;
  }
  const below = new Chain(chain.layers.slice(topIndex), graph.host);
  const found = await below.find(base);
  if (found === undefined) throw new DaemonError(`Can't find '${base}' in the backing chain`);
  return topIndex + found;
}

/** The node of that name, from `first` on. */
function indexOf(graph: Graph, nodes: readonly BlockNode[], first: number, name: string): number {
  const node = graph.lookUp('', name);
  const index = nodes.indexOf(node);
  if (index >= first) return index;
  throw new DaemonError(`'${name}' is not in this backing file chain`);
}
