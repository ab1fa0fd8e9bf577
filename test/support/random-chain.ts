// Random chains: what a chain is made of, as plain data that fast-check can shrink, and the plain
// in-memory model of what the guest sees through each layer.

import fc from 'fast-check';

const SECTOR = 512;

export type Operation =
  /** Sectors; `pattern` is the byte that is written, 1 to 250. */
  | {
      readonly kind: 'write';
      readonly at: number;
      readonly count: number;
      readonly pattern: number;
    }
  | { readonly kind: 'zero'; readonly at: number; readonly count: number; readonly unmap: boolean }
  | { readonly kind: 'discard'; readonly at: number; readonly count: number }
  /** One whole cluster. */
  | { readonly kind: 'compressed'; readonly at: number; readonly pattern: number }
  | { readonly kind: 'snapshot' };

export interface LayerSpec {
  readonly format: 'qcow2' | 'raw';
  /** Sectors. */
  readonly sectors: number;
  readonly clusterSize: number;
  readonly compat: '0.10' | '1.1';
  readonly refcountBits: number;
  readonly zstd: boolean;
  readonly operations: readonly Operation[];
}

export interface ChainSpec {
  /** Base first. */
  readonly layers: readonly LayerSpec[];
}

const clusterSizes = fc.constantFrom(512, 512, 1024, 4096, 4096, 65536, 65536, 2 * 1024 * 1024);
const sizes = fc.oneof(
  { weight: 3, arbitrary: fc.constant(4096) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 64 }) },
  { weight: 3, arbitrary: fc.integer({ min: 64, max: 6000 }) },
);

const at = fc.double({ min: 0, max: 0.9999, noNaN: true });
const length = fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 700 }));
const pattern = fc.integer({ min: 1, max: 250 });

type RawOperation = {
  kind: Operation['kind'];
  at: number;
  length: number;
  pattern: number;
  unmap: boolean;
};

const rawOperation: fc.Arbitrary<RawOperation> = fc.record({
  kind: fc.constantFrom<Operation['kind']>(
    'write',
    'write',
    'write',
    'write',
    'zero',
    'zero',
    'discard',
    'compressed',
    'compressed',
    'snapshot',
  ),
  at,
  length,
  pattern,
  unmap: fc.boolean(),
});

const rawLayer = fc.record({
  raw: fc.integer({ min: 0, max: 3 }),
  sectors: sizes,
  clusterSize: clusterSizes,
  old: fc.integer({ min: 0, max: 3 }),
  refcountBits: fc.constantFrom(16, 16, 16, 1, 2, 4, 8, 32, 64),
  zstd: fc.boolean(),
  operations: fc.array(rawOperation, { maxLength: 12 }),
});

/** Depth 1 to 5 overlays over a base. */
export const chainSpecs: fc.Arbitrary<ChainSpec> = fc
  .array(rawLayer, { minLength: 2, maxLength: 6 })
  .map((layers) => ({ layers: layers.map((layer, i) => layerSpec(layer, i === 0)) }));

type RawLayer = typeof rawLayer extends fc.Arbitrary<infer T> ? T : never;

function layerSpec(raw: RawLayer, isBase: boolean): LayerSpec {
  const format = isBase && raw.raw === 0 ? 'raw' : 'qcow2';
  const compat = raw.old === 0 ? '0.10' : '1.1';
  const refcountBits = compat === '0.10' ? 16 : raw.refcountBits;
  const { sectors, clusterSize } = raw;
  const per = clusterSize / SECTOR;
  const touched = new Set<number>();
  const touch = (at: number, count: number): void => {
    for (let i = Math.floor(at / per); i * per < at + count; i++) touched.add(i);
  };
  let snapshots = 0;
  const operations = raw.operations.flatMap((operation): Operation[] => {
    const start = Math.floor(operation.at * sectors);
    const count = Math.min(operation.length, sectors - start);
    if (operation.kind !== 'compressed' && operation.kind !== 'snapshot') touch(start, count);
    switch (operation.kind) {
      case 'write':
        return [{ kind: 'write', at: start, count, pattern: operation.pattern }];
      case 'zero':
        return [{ kind: 'zero', at: start, count, unmap: operation.unmap }];
      case 'discard':
        // What a discard leaves above a backing file in version 2 is not defined.
        return format === 'qcow2' && compat === '1.1'
          ? [{ kind: 'discard', at: start, count }]
          : [];
      case 'compressed': {
        // QEMU writes compressed clusters where nothing else was written before.
        const first = start - (start % per);
        if (format === 'raw' || first + per > sectors || touched.has(first / per)) return [];
        touch(first, per);
        return [{ kind: 'compressed', at: first, pattern: operation.pattern }];
      }
      case 'snapshot': {
        // Each snapshot is one more reference to every cluster: it must fit the refcount.
        const most = refcountBits >= 4 ? 2 : refcountBits === 2 ? 1 : 0;
        if (format === 'raw' || snapshots >= most) return [];
        snapshots++;
        return [{ kind: 'snapshot' }];
      }
      default:
        return operation.kind satisfies never;
    }
  });
  return { format, sectors, clusterSize, compat, refcountBits, zstd: raw.zstd, operations };
}

const UNALLOCATED = -1;

/** What the guest sees, byte for byte. Discards read as zeros wherever the generator allows them. */
export class ChainModel {
  readonly #layers: Int16Array[] = [];

  constructor(spec: ChainSpec) {
    for (const layer of spec.layers) this.#layers.push(sectorsOf(layer));
  }

  /** The view through layer `index` (0: base). */
  view(index: number): Uint8Array {
    const own = this.#layers[index];
    if (own === undefined) throw new Error(`no layer ${index}`);
    const bytes = new Uint8Array(own.length * SECTOR);
    own.forEach((_, sector) => {
      bytes.fill(this.#sector(index, sector), sector * SECTOR, (sector + 1) * SECTOR);
    });
    return bytes;
  }

  #sector(index: number, sector: number): number {
    for (let i = index; i >= 0; i--) {
      const value = this.#layers[i]?.[sector];
      if (value === undefined) return 0;
      if (value !== UNALLOCATED) return value;
    }
    return 0;
  }

  /** What base must read like once `top` was committed into it. */
  committed(top: number, base: number): Uint8Array {
    const upper = this.view(top);
    const lower = this.view(base);
    const bytes = new Uint8Array(Math.max(upper.length, lower.length));
    bytes.set(lower);
    bytes.set(upper);
    return bytes;
  }
}

function sectorsOf(layer: LayerSpec): Int16Array {
  const sectors = new Int16Array(layer.sectors).fill(layer.format === 'raw' ? 0 : UNALLOCATED);
  const per = layer.clusterSize / SECTOR;
  for (const operation of layer.operations) {
    if (operation.kind === 'snapshot') continue;
    if (operation.kind === 'compressed') {
      sectors.fill(operation.pattern, operation.at, operation.at + per);
    } else if (operation.kind === 'discard') discard(sectors, operation, per);
    else {
      const value = operation.kind === 'write' ? operation.pattern : 0;
      sectors.fill(value, operation.at, operation.at + operation.count);
    }
  }
  return sectors;
}

/** QEMU discards whole clusters; the last one of the disk counts as whole. */
function discard(
  sectors: Int16Array,
  { at, count }: { readonly at: number; readonly count: number },
  per: number,
): void {
  const end = at + count;
  const first = Math.ceil(at / per) * per;
  const last = end === sectors.length ? end : end - (end % per);
  if (first < last) sectors.fill(0, first, last);
}
