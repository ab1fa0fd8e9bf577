// What queries tell of nodes and devices.

import { Qcow2Image } from '../qcow2/image.ts';
import type { Graph } from './graph.ts';
import type { BlockNode } from './node.ts';

export type Described = Readonly<Record<string, unknown>>;

const COMMIT_TOP = 'commit_top';

/** An image in the words of `qemu-img info --output=json`. */
export type DescribeImage = (node: BlockNode) => Promise<Described>;

/** With what its backing files are, unless `flat`. */
export async function describeNode(
  node: BlockNode,
  describeImage: DescribeImage,
  flat = false,
): Promise<Described> {
  const { settings } = node;
  const { layer } = node;
  const isImage = node.driver !== COMMIT_TOP && layer instanceof Qcow2Image;
  const backingFile = isImage ? layer.header.backingFile : null;
  return {
    file: node.filename,
    'node-name': node.name,
    ro: node.readOnly,
    drv: node.driver,
    encrypted: layer instanceof Qcow2Image && layer.encryption !== null,
    cache: {
      writeback: true,
      direct: settings.cache === 'none',
      'no-flush': settings.cache === 'unsafe',
    },
    detect_zeroes: settings.detectZeroes,
    ...(node.backing !== undefined && backingFile !== null && { backing_file: backingFile }),
    backing_file_depth: flat ? 0 : depthOf(node),
    ...{ bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0, write_threshold: 0 },
    image: await describeChain(node, describeImage, flat),
  };
}

/** It shows what is below it, and is no image itself. */
function describeFilter({ filename, layer }: BlockNode, below: Described): Described {
  return {
    'virtual-size': layer.size,
    filename,
    'cluster-size': layer.clusterSize,
    format: COMMIT_TOP,
    'actual-size': below['actual-size'],
    'dirty-flag': false,
  };
}

function depthOf(node: BlockNode): number {
  let depth = 0;
  for (let below = node.backing; below !== undefined; below = below.backing) depth++;
  return depth;
}

async function describeChain(
  node: BlockNode,
  describeImage: DescribeImage,
  flat: boolean,
): Promise<Described> {
  const image =
    node.driver === COMMIT_TOP
      ? describeFilter(node, await describeImage(node))
      : await describeImage(node);
  if (flat || node.backing === undefined) return image;
  const backing = await describeChain(node.backing, describeImage, flat);
  return { ...image, 'backing-image': backing };
}

/** The devices, in the order in which they came. */
export async function describeDevices(
  graph: Graph,
  describeImage: DescribeImage,
): Promise<readonly Described[]> {
  const described: Described[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (node.device === '') continue;
    described.push({
      device: node.device,
      type: 'unknown',
      removable: false,
      locked: false,
      'io-status': 'ok',
      inserted: await describeNode(node, describeImage),
    });
  }
  return described;
}
