// A random chain made real by qemu-img and qemu-io, and the commands that do it, for a report.

import { join } from 'node:path';
import { qemuImg, qemuIo } from './qemu.ts';
import type { ChainSpec, LayerSpec, Operation } from './random-chain.ts';

const SECTOR = 512;

export interface BuiltLayer {
  readonly file: string;
  readonly format: 'qcow2' | 'raw';
  readonly snapshots: readonly string[];
}

export interface BuiltChain {
  /** Base first. */
  readonly layers: readonly BuiltLayer[];
  readonly commands: readonly string[];
}

export async function buildChain(spec: ChainSpec, dir: string): Promise<BuiltChain> {
  const layers: BuiltLayer[] = [];
  const commands: string[] = [];
  for (const [i, layer] of spec.layers.entries()) {
    const below = layers.at(-1);
    const name = i === 0 ? `base.${layer.format}` : `sn${i}.qcow2`;
    const args = createArguments(
      layer,
      below && { ...below, file: below.file.slice(dir.length + 1) },
    );
    commands.push(`qemu-img create ${args.join(' ')} ${name} ${layer.sectors * SECTOR}`);
    const file = join(dir, name);
    await qemuImg('create', '-q', ...args, file, String(layer.sectors * SECTOR));
    const snapshots = await apply(layer, file, name, commands);
    layers.push({ file, format: layer.format, snapshots });
  }
  return { layers, commands };
}

function createArguments(layer: LayerSpec, below: BuiltLayer | undefined): string[] {
  if (layer.format === 'raw') return ['-f', 'raw'];
  const options = [
    `compat=${layer.compat}`,
    `cluster_size=${layer.clusterSize}`,
    ...(layer.compat === '1.1' ? [`refcount_bits=${layer.refcountBits}`] : []),
    ...(layer.compat === '1.1' && layer.zstd ? ['compression_type=zstd'] : []),
  ];
  const backing = below === undefined ? [] : ['-b', below.file, '-F', below.format];
  return ['-f', 'qcow2', '-o', options.join(','), ...backing];
}

async function apply(
  layer: LayerSpec,
  file: string,
  name: string,
  commands: string[],
): Promise<string[]> {
  const snapshots: string[] = [];
  let pending: string[] = [];
  const flush = async () => {
    if (pending.length === 0) return;
    const quoted = pending.map((command) => `-c '${command}'`).join(' ');
    commands.push(`qemu-io -f ${layer.format} ${quoted} ${name}`);
    await qemuIo(file, pending, layer.format);
    pending = [];
  };
  for (const operation of layer.operations) {
    if (operation.kind !== 'snapshot') pending.push(ioCommand(operation, layer.clusterSize));
    else {
      await flush();
      const snapshot = `s${snapshots.length}`;
      commands.push(`qemu-img snapshot -c ${snapshot} ${name}`);
      await qemuImg('snapshot', '-c', snapshot, file);
      snapshots.push(snapshot);
    }
  }
  await flush();
  return snapshots;
}

function ioCommand(
  operation: Exclude<Operation, { kind: 'snapshot' }>,
  clusterSize: number,
): string {
  const at = operation.at * SECTOR;
  switch (operation.kind) {
    case 'write':
      return `write -P ${operation.pattern} ${at} ${operation.count * SECTOR}`;
    case 'zero':
      return `write -z ${operation.unmap ? '-u ' : ''}${at} ${operation.count * SECTOR}`;
    case 'discard':
      return `discard ${at} ${operation.count * SECTOR}`;
    case 'compressed':
      return `write -c -P ${operation.pattern} ${at} ${clusterSize}`;
    default:
      return operation satisfies never;
  }
}
