// A random chain made real by qemu-img and qemu-io, and the shell commands that make it again.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { asQcow2 } from '../../src/chain/chain.ts';
import { openChain } from '../../src/chain/open.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/qcow2/snapshot-changes.ts';
import {
  type ChainSpec,
  type LayerSpec,
  type Operation,
  type Pattern,
  SECTOR,
  type SnapshotOperation,
} from './arbitraries.ts';
import { PATTERN_LENGTH, patternByte } from './chain-model.ts';
import { mustIn, qemuIo } from './qemu.ts';

export interface BuiltLayer {
  /** File name within the chain's directory. */
  readonly name: string;
  readonly file: string;
  readonly format: 'qcow2' | 'raw';
  readonly snapshots: readonly string[];
}

export interface BuiltChain {
  readonly dir: string;
  /** Base first. */
  readonly layers: readonly BuiltLayer[];
}

/** Builds the chain in `dir`; each command is appended to `commands` before it runs. */
export async function buildChain(
  spec: ChainSpec,
  dir: string,
  commands: string[],
): Promise<BuiltChain> {
  const builder = new Builder(dir, commands);
  const layers: BuiltLayer[] = [];
  for (const [i, layer] of spec.layers.entries()) {
    const name = i === 0 ? `base.${layer.format}` : `sn${i}.qcow2`;
    await builder.create(layer, name, layers.at(-1));
    const snapshots = await builder.apply(layer, name);
    layers.push({ name, file: join(dir, name), format: layer.format, snapshots });
  }
  return { dir, layers };
}

class Builder {
  readonly #dir: string;
  readonly #commands: string[];
  readonly #patterns = new Set<number>();

  constructor(dir: string, commands: string[]) {
    this.#dir = dir;
    this.#commands = commands;
  }

  async create(layer: LayerSpec, name: string, below: BuiltLayer | undefined): Promise<void> {
    const options = layer.format === 'raw' ? [] : ['-o', createOptions(layer, name)];
    const backing = below === undefined ? [] : ['-b', below.name, '-F', below.format];
    const size = String(layer.sectors * SECTOR);
    await this.#qemuImg('create', '-q', '-f', layer.format, ...options, ...backing, name, size);
  }

  /** Carries the operations out; those between two snapshots in one process. */
  async apply(layer: LayerSpec, name: string): Promise<string[]> {
    const snapshots: string[] = [];
    let taken = 0;
    let pending: string[] = [];
    const flush = async () => {
      const batch = pending;
      pending = [];
      if (batch.length === 0) return;
      const quoted = batch.map((command) => `-c '${command}'`).join(' ');
      this.#commands.push(`qemu-io -f ${layer.format} ${quoted} ${name}`);
      await qemuIo(name, batch, layer.format, this.#dir);
    };
    for (const operation of layer.operations) {
      if (!('ours' in operation)) {
        pending.push(this.#ioCommand(operation));
        continue;
      }
      await flush();
      if (operation.kind === 'snapshot') snapshots.push(`s${taken++}`);
      await this.#snapshot(operation, snapshots.at(-1) ?? '', name);
      if (operation.kind === 'unsnapshot') snapshots.pop();
    }
    await flush();
    return snapshots;
  }

  async #snapshot({ kind, ours }: SnapshotOperation, name: string, file: string): Promise<void> {
    const option = { snapshot: '-c', revert: '-a', unsnapshot: '-d' }[kind];
    if (!ours) {
      await this.#qemuImg('snapshot', option, name, file);
      return;
    }
    this.#commands.push(`qimg-ts snapshot ${option} ${name} ${file}`);
    await using chain = await openChain(join(this.#dir, file), { host: nodeHost, writable: true });
    const image = asQcow2(chain.top);
    if (kind === 'snapshot') await createSnapshot(image, { name, seconds: 1, nanoseconds: 0 });
    else await (kind === 'revert' ? applySnapshot : deleteSnapshot)(image, name);
  }

  #ioCommand(operation: Exclude<Operation, SnapshotOperation>): string {
    const range = `${operation.at * SECTOR} ${operation.count * SECTOR}`;
    switch (operation.kind) {
      case 'write':
        return `write ${this.#pattern(operation.pattern)} ${range}`;
      case 'compressed':
        return `write -c ${this.#pattern(operation.pattern)} ${range}`;
      case 'zero':
        return `write -z ${operation.unmap ? '-u ' : ''}${range}`;
      case 'discard':
        return `discard ${range}`;
      default:
        return operation satisfies never;
    }
  }

  #pattern(pattern: Pattern): string {
    if (pattern.plain) return `-P ${pattern.seed}`;
    const name = `pattern${pattern.seed}`;
    if (!this.#patterns.has(pattern.seed)) {
      this.#patterns.add(pattern.seed);
      const bytes = Array.from({ length: PATTERN_LENGTH }, (_, i) => patternByte(pattern, i));
      writeFileSync(join(this.#dir, name), Uint8Array.from(bytes));
      this.#commands.push(
        `node -e 'process.stdout.write(Buffer.from(Array.from({ length: ${PATTERN_LENGTH} }, ` +
          `(_, i) => 1 + ((${pattern.seed} + 7 * i) % 250))))' > ${name}`,
      );
    }
    return `-s ${name}`;
  }

  async #qemuImg(...args: string[]): Promise<void> {
    this.#commands.push(`qemu-img ${args.join(' ')}`);
    await mustIn(this.#dir, 'qemu-img', ...args);
  }
}

function createOptions(layer: LayerSpec, name: string): string {
  return [
    `compat=${layer.compat}`,
    `cluster_size=${layer.clusterSize}`,
    ...(layer.preallocated ? ['preallocation=metadata'] : []),
    ...(layer.compat === '1.1' ? [`refcount_bits=${layer.refcountBits}`] : []),
    ...(layer.zstd ? ['compression_type=zstd'] : []),
    ...(layer.lazyRefcounts ? ['lazy_refcounts=on'] : []),
    ...(layer.dataFile === 'none' ? [] : [`data_file=${name}.data`]),
    ...(layer.dataFile === 'raw' ? ['data_file_raw=on'] : []),
    ...(layer.extendedL2 ? ['extended_l2=on'] : []),
  ].join(',');
}
