// Random images in memory with an old and a new backing file: chains that share layers, hold the same
// bytes in other places, or have nothing in common.

import fc from 'fast-check';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import {
  addLayer,
  buildChain,
  type MemoryLayer,
  memoryChain,
  memoryLayer,
  SECTORS,
} from './memory-chains.ts';

export interface RebaseCase {
  /** Base first; the last one is the image that is rebased. */
  readonly old: readonly MemoryLayer[];
  /** The layer of the old chain that the new one stands on; undefined: none. */
  readonly below: number | undefined;
  /** Layers of the new backing file over that; without one, that itself. */
  readonly extra: readonly MemoryLayer[];
  /** Holds what the old layers of these places hold. */
  readonly twin: boolean;
}

export const rebaseCase: fc.Arbitrary<RebaseCase> = memoryChain(0, 3).chain((old) =>
  fc
    .record({
      old: fc.constant(old.map((layer, i) => ({ ...layer, raw: layer.raw && i < old.length - 1 }))),
      below: fc.option(fc.nat(Math.max(0, old.length - 2)), { nil: undefined }),
      extra: fc.array(memoryLayer(SECTORS), { maxLength: 2 }),
      twin: fc.boolean(),
    })
    .map((found) => completed(found)),
);

function completed({ old, below, extra, twin }: RebaseCase): RebaseCase {
  const stands = old.length < 2 ? undefined : below;
  const layers = extra.map((layer, i) => ({
    ...layer,
    raw: layer.raw && i === 0 && stands === undefined,
    ...(twin && { operations: old[i]?.operations ?? layer.operations }),
  }));
  return { old, below: stands, extra: layers, twin };
}

export interface BuiltRebase {
  readonly image: string;
  /** As the image is to store it; empty for none. */
  readonly backing: string;
  readonly backingFormat: 'qcow2' | 'raw' | undefined;
  /** All files but the image. */
  readonly others: readonly string[];
}

export async function buildRebase(host: MemoryHost, spec: RebaseCase): Promise<BuiltRebase> {
  const names = await buildChain(host, spec.old);
  const image = names.at(-1) ?? '';
  let below =
    spec.below === undefined
      ? undefined
      : { name: `layer${spec.below}`, raw: spec.old[spec.below]?.raw === true };
  const others = names.slice(0, -1);
  for (const [i, layer] of spec.extra.entries()) {
    const name = `new${i}`;
    await addLayer(host, `/disks/${name}`, layer, below, spec.twin ? i : 50 + i);
    others.push(`/disks/${name}`);
    below = { name, raw: layer.raw };
  }
  const backingFormat = below && (below.raw ? 'raw' : 'qcow2');
  return { image, backing: below?.name ?? '', backingFormat, others };
}

/** What `rebase` takes for it. */
export function requestFor({ backing, backingFormat }: BuiltRebase) {
  return { backing, ...(backingFormat !== undefined && { backingFormat }) };
}
