// `info block`: devices as people read of them.

import type { Described } from './describe.ts';

/** `imageText`: an image as `qemu-img info` prints it. */
export function infoBlock(
  devices: readonly Described[],
  name: string | undefined,
  imageText: ((image: Described) => string) | undefined,
): string {
  let text = '';
  for (const [i, device] of devices.entries()) {
    if (name !== undefined && device['device'] !== name) continue;
    text += i > 0 ? '\n' : '';
    text += `${device['device']} (${(device['inserted'] as Described)['node-name']})`;
    text += nodeText(device['inserted'] as Described, imageText);
  }
  return text;
}

/** `info block -n`: nodes by their names. */
export function infoNodes(
  nodes: readonly Described[],
  imageText: ((image: Described) => string) | undefined,
): string {
  return nodes.map((node) => `${node['node-name']}${nodeText(node, imageText)}`).join('\n');
}

function nodeText(node: Described, imageText: ((image: Described) => string) | undefined): string {
  const cache = node['cache'] as Described;
  const marks = [node['ro'] ? ', read-only' : '', node['encrypted'] ? ', encrypted' : ''].join('');
  const lines = [
    `: ${node['file']} (${node['drv']}${marks})`,
    `    Cache mode:       ${cacheText(cache)}`,
  ];
  if (node['backing_file'] !== undefined) {
    const depth = node['backing_file_depth'];
    lines.push(`    Backing file:     ${node['backing_file']} (chain depth: ${depth})`);
  }
  if (node['detect_zeroes'] !== 'off') {
    lines.push(`    Detect zeroes:    ${node['detect_zeroes']}`);
  }
  const text = `${lines.join('\n')}\n`;
  return imageText === undefined ? text : `${text}\nImages:\n${imagesText(node, imageText)}`;
}

function cacheText(cache: Described): string {
  const mode = cache['writeback'] ? 'writeback' : 'writethrough';
  return `${mode}${cache['direct'] ? ', direct' : ''}${cache['no-flush'] ? ', ignore flushes' : ''}`;
}

function imagesText(node: Described, imageText: (image: Described) => string): string {
  let text = '';
  for (let image = node['image'] as Described | undefined; image !== undefined; ) {
    text += imageText(image);
    image = image['backing-image'] as Described | undefined;
  }
  return text;
}
