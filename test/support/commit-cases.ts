// A random commit: a chain, the pair of layers, and the form; what each form asks for and changes.

import fc from 'fast-check';
import { type ChainSpec, chainSpecs, type LayerSpec, SECTOR } from './arbitraries.ts';
import type { BuiltChain, BuiltLayer } from './build-chain.ts';
import type { CommitRequest } from './committers.ts';

/** `inner` leaves an overlay on top of what is merged, and relinks it to base. */
export type Form = 'default' | 'drop' | 'base' | 'base-relink' | 'inner';

export interface Case {
  readonly spec: ChainSpec;
  readonly form: Form;
  /** Index of the layer that is committed, and of the one that receives it (0: base). */
  readonly top: number;
  readonly base: number;
  /** Remove the files that nobody needs afterwards. */
  readonly deletes: boolean;
  /** Store clusters compressed where base can hold them. */
  readonly compresses: boolean;
}

export const cases: fc.Arbitrary<Case> = fc
  .record({
    spec: chainSpecs,
    form: fc.constantFrom<Form>('default', 'default', 'drop', 'base', 'base-relink', 'inner'),
    top: fc.nat(100),
    base: fc.nat(100),
    deletes: fc.boolean(),
    compresses: fc.nat(3).map((value) => value === 3),
  })
  .map(({ spec, form: wished, top: topWish, base: baseWish, deletes, compresses }) => {
    const highest = spec.layers.length - 1;
    const form = wished === 'inner' && highest < 2 ? 'base' : wished;
    const top = 1 + (topWish % (form === 'inner' ? highest - 1 : highest));
    const base = form === 'default' || form === 'drop' ? top - 1 : baseWish % top;
    const lower = spec.layers[base];
    return {
      spec,
      form,
      top,
      base,
      deletes: deletes && relinks({ form }),
      compresses: compresses && lower !== undefined && holdsCompressed(lower),
    };
  });

function holdsCompressed({ format, dataFile, zstd }: LayerSpec): boolean {
  return format === 'qcow2' && dataFile === 'none' && (!zstd || 'zstd' in process.versions);
}

export function layerAt(chain: BuiltChain, index: number): BuiltLayer {
  const layer = chain.layers[index];
  if (layer === undefined) throw new Error(`no layer ${index}`);
  return layer;
}

/** The image that is named, and the rest of the request. */
export function requestOf(
  { form, top, base, deletes, compresses, spec }: Case,
  nameOf: (index: number) => string,
): { readonly filename: string; readonly request: CommitRequest } {
  const request = ((): CommitRequest => {
    switch (form) {
      case 'default':
        return {};
      case 'drop':
        return { drop: true };
      case 'base':
        return { base: nameOf(base) };
      case 'base-relink':
        return { base: nameOf(base), relink: true, delete: deletes };
      case 'inner':
        return { base: nameOf(base), top: nameOf(top), delete: deletes };
      default:
        return form satisfies never;
    }
  })();
  const filename = nameOf(form === 'inner' ? spec.layers.length - 1 : top);
  return { filename, request: compresses ? { ...request, compress: true } : request };
}

/** These forms are ours alone. */
export function relinks({ form }: Pick<Case, 'form'>): boolean {
  return form === 'inner' || form === 'base-relink';
}

/** Index of the image that afterwards stands directly on base instead of on what was merged. */
export function relinked({ form, top, base }: Case): number | undefined {
  if (form === 'inner') return top + 1;
  return form === 'base-relink' && base < top - 1 ? top : undefined;
}

/** Merged layers that nobody needs afterwards. */
export function dead({ form, top, base }: Case): readonly number[] {
  const last = form === 'inner' ? top : top - 1;
  return Array.from({ length: last - base }, (_, i) => base + 1 + i);
}

/** A version 2 base with internal snapshots can't grow. */
export function mustRefuse(each: Case): boolean {
  const { lower, grows } = ends(each);
  return grows && isOld(lower) && hasSnapshots(lower);
}

/**
 * QEMU also gives up where a version 2 base would grow by a cluster over a longer backing file: the
 * new area must read as zeros, there are no zero clusters, and it writes none as data there.
 */
export function qemuRefuses(each: Case): boolean {
  const { upper, lower, below, grows } = ends(each);
  if (mustRefuse(each)) return true;
  const perCluster = lower.clusterSize / SECTOR;
  const lastCluster = Math.ceil(lower.sectors / perCluster) * perCluster;
  const shinesThrough = below !== undefined && below.sectors > lower.sectors;
  if (!grows || !shinesThrough) return false;
  return isOld(lower) ? upper.sectors > lastCluster : endsCompressed(lower);
}

/**
 * Nor does it take the zero flags of the last cluster's other subclusters where that is compressed,
 * and so has none.
 */
function endsCompressed({ extendedL2, clusterSize, sectors, operations }: LayerSpec): boolean {
  const perCluster = clusterSize / SECTOR;
  const perSubcluster = extendedL2 ? perCluster / 32 : perCluster;
  const zeroed = Math.ceil(sectors / perSubcluster) * perSubcluster;
  if (zeroed % perCluster === 0) return false;
  const start = sectors - (sectors % perCluster);
  const last = operations.findLast((each) => {
    if (!('at' in each) || each.at + each.count <= start) return false;
    return each.kind !== 'discard' || (each.at <= start && each.at + each.count === sectors);
  });
  return last?.kind === 'compressed';
}

function ends({ spec, top, base }: Case) {
  const upper = spec.layers[top];
  const lower = spec.layers[base];
  if (upper === undefined || lower === undefined) throw new Error('layers out of range');
  return { upper, lower, below: spec.layers[base - 1], grows: upper.sectors > lower.sectors };
}

function isOld({ format, compat }: LayerSpec): boolean {
  return format === 'qcow2' && compat === '0.10';
}

export function hasSnapshots({ operations }: LayerSpec): boolean {
  const count = (wanted: string) => operations.filter(({ kind }) => kind === wanted).length;
  return count('snapshot') > count('unsnapshot');
}
