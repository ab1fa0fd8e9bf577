// What one layer says about the bytes from an offset on, in the steps in which QEMU learns it: a
// cursor that goes forward through the layer's extents and keeps one answer of them.

import { ImageError } from '../errors.ts';
import { lowestPlace } from '../io/filter.ts';
import type { Extent, HostRange, Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { isPreallocated } from '../qcow2/preallocation.ts';
import { RawImage } from '../raw/raw.ts';
import { alignDown, alignUp, divideUp, KIB, MIB, SECTOR } from '../units.ts';

export interface LayerStatus {
  /** `hole`: has a place in the file, and there is nothing there. */
  readonly kind: 'unallocated' | 'zero' | 'data' | 'hole';
  /** First byte after it. */
  readonly end: number;
  readonly host: HostRange | null;
}

/** Asked for in advance: answers of small pieces cost more than what is in them. */
const LOOK_AHEAD = 64 * MIB;
/** QEMU's cache of L2 tables; where it is too small for the whole disk, tables come in slices. */
const L2_CACHE = 32 * MIB;
const L2_SLICE = 4 * KIB;
/** The most that one step covers, in bytes. */
const MAX_STEP = 2 ** 31 - 1;

/** For offsets that never go back. */
export class LayerCursor {
  readonly layer: Layer;
  readonly #lenient: boolean;
  /** Bytes of the disk that one slice of an L2 table maps; undefined without such tables. */
  readonly #slice: number | undefined;
  #extents: readonly Extent[] = [];
  #index = 0;
  #preallocated: Promise<boolean> | undefined;
  #emptyEnd = 0;

  /** `lenient`: what lies behind the end of a file that was cut short is told, not refused. */
  constructor(layer: Layer, lenient: boolean) {
    this.layer = layer;
    this.#lenient = lenient;
    this.#slice = layer instanceof Qcow2Image ? sliceOf(layer) : undefined;
  }

  /** The status at `offset`, up to `end` at most; both inside the disk. */
  async at(offset: number, end: number): Promise<LayerStatus> {
    const most = Math.min(end, this.stepEnd(offset));
    const extent = await this.#extentAt(offset, most);
    const stop = Math.min(extent.offset + extent.length, most);
    const { layer } = this;
    const host = placeInFile(layer, offset) ?? hostAt(extent, offset);
    const { kind } = extent;
    if (kind !== 'data' || host === null || !(await this.#isPreallocated())) {
      return { kind, end: stop, host };
    }
    return lookThrough(host, offset, stop);
  }

  /**
   * Up to where no cluster is allocated from `offset` on, as far as the tables in memory tell;
   * `offset` itself where they don't.
   */
  emptyEnd(offset: number): number {
    const { layer } = this;
    if (offset < this.#emptyEnd) return this.#emptyEnd;
    if (!(layer instanceof Qcow2Image) || layer.refusalToMap !== null) return offset;
    this.#emptyEnd = layer.emptyEnd(offset);
    return Math.max(offset, this.#emptyEnd);
  }

  /** Where a step of QEMU's from `offset` on ends at the latest. */
  stepEnd(offset: number): number {
    if (this.#slice === undefined) return Number.POSITIVE_INFINITY;
    return Math.min(alignDown(offset, this.#slice) + this.#slice, offset + MAX_STEP);
  }

  #isPreallocated(): Promise<boolean> {
    const { layer } = this;
    this.#preallocated ??=
      layer instanceof Qcow2Image ? isPreallocated(layer) : Promise.resolve(false);
    return this.#preallocated;
  }

  /** The extent at `offset`; it ends before `end` only where another one begins. */
  async #extentAt(offset: number, end: number): Promise<Extent> {
    let extent = this.#kept(offset);
    if (extent === undefined) {
      this.#extents = await this.#fetch(offset, end);
      this.#index = 0;
      extent = this.#at(0);
    }
    while (this.#index + 1 === this.#extents.length && extent.offset + extent.length < end) {
      const more: readonly Extent[] = await this.#fetch(extent.offset + extent.length, end).catch(
        // Told when it is asked for by itself: what stands before it is good.
        onlyIfCorrupt(() => []),
      );
      const joined = join(extent, more[0]);
      this.#extents = joined === undefined ? [extent, ...more] : [joined, ...more.slice(1)];
      this.#index = 0;
      if (joined === undefined) break;
      extent = joined;
    }
    return extent;
  }

  #kept(offset: number): Extent | undefined {
    for (; this.#index < this.#extents.length; this.#index++) {
      const extent = this.#at(this.#index);
      if (offset < extent.offset) return undefined;
      if (offset < extent.offset + extent.length) return extent;
    }
    return undefined;
  }

  #at(index: number): Extent {
    const extent = this.#extents[index];
    if (extent === undefined) throw new Error(`internal error: no extent ${index}`);
    return extent;
  }

  #extentsOf(offset: number, length: number): Promise<readonly Extent[]> {
    const { layer } = this;
    return this.#lenient && layer instanceof Qcow2Image
      ? layer.layout(offset, length)
      : layer.extents(offset, length);
  }

  async #fetch(offset: number, end: number): Promise<readonly Extent[]> {
    const { layer } = this;
    const ahead = Math.min(layer.size, Math.max(end, offset + LOOK_AHEAD));
    return await this.#extentsOf(offset, ahead - offset).catch(
      // The broken entry may be further on.
      onlyIfCorrupt(() => {
        const clusterEnd = alignDown(offset, layer.clusterSize) + layer.clusterSize;
        return this.#extentsOf(offset, Math.min(layer.size, clusterEnd) - offset);
      }),
    );
  }
}

function onlyIfCorrupt<T>(instead: () => T): (error: unknown) => T {
  return (error) => {
    if (error instanceof ImageError && error.code === 'corrupt') return instead();
    throw error;
  };
}

function sliceOf({ size, geometry }: Qcow2Image): number {
  const { clusterSize, l2EntryBytes } = geometry;
  const tables = alignUp(divideUp(size, clusterSize) * l2EntryBytes, clusterSize);
  const bytes = tables > L2_CACHE ? Math.min(clusterSize, L2_SLICE) : clusterSize;
  return (bytes / l2EntryBytes) * clusterSize;
}

/** A raw layer has a place in its file for every byte: it passes the question on, down to there. */
function placeInFile(layer: Layer, offset: number): HostRange | null {
  if (!(layer instanceof RawImage) || layer.format !== 'raw') return null;
  if (layer.source.image !== undefined) return null;
  return lowestPlace({ storage: layer.storage, offset });
}

function hostAt(extent: Extent, offset: number): HostRange | null {
  const host = extent.host ?? null;
  return host && { ...host, offset: host.offset + offset - extent.offset };
}

/** Both as one, where nothing tells them apart. */
function join(a: Extent, b: Extent | undefined): Extent | undefined {
  if (b === undefined || a.kind !== b.kind) return undefined;
  const [hostA, hostB] = [hostAt(a, a.offset), hostAt(b, b.offset)];
  // Compressed clusters stay apart.
  if (a.kind === 'data' && hostA === null) return undefined;
  if (hostA === null ? hostB !== null : hostA.offset + a.length !== hostB?.offset) return undefined;
  return { ...a, length: a.length + b.length };
}

/** Data of a preallocated image, up to the next change between data and hole in its file. */
async function lookThrough(host: HostRange, offset: number, end: number): Promise<LayerStatus> {
  const { storage, offset: place } = host;
  const length = end - offset;
  const hole = { kind: 'hole', end, host } as const;
  if (place >= storage.size) return hole;
  const found = await storage.extentAt(place);
  // Nothing but a hole up to the end of the file: so it is behind it, too.
  if (!found.data && found.end >= storage.size && place + length >= alignUp(storage.size, SECTOR)) {
    return hole;
  }
  const kind = found.data ? 'data' : 'hole';
  return { ...hole, kind, end: offset + Math.min(length, found.end - place) };
}
