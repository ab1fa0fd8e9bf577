// How much data a layer may show: what its file can hold. Clusters that very many entries share would
// have a file of a few megabytes read as terabytes.

import { ImageError } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { GIB } from '../units.ts';
import type { StatusStep } from './block-status.ts';

/** Read in no time, whoever shares it. */
const LITTLE = 4 * GIB;
/** The most that a byte of a deflate stream, or of a zstd frame, can stand for. */
const INFLATES_TO = { zlib: 1032, zstd: 44_000 } as const;

export class DataBound {
  readonly #layers: readonly Layer[];
  readonly #shown: { plain: number; compressed: number }[];

  constructor(layers: readonly Layer[]) {
    this.#layers = layers;
    this.#shown = layers.map(() => ({ plain: 0, compressed: 0 }));
  }

  /** Throws `corrupt` where a layer has shown more than it can have. */
  add({ kind, depth, length, host }: StatusStep): void {
    const layer = this.#layers[depth];
    const shown = this.#shown[depth];
    if (kind !== 'data' || !(layer instanceof Qcow2Image) || shown === undefined) return;
    const isPlain = host !== null || layer.data.opaque;
    if (isPlain) shown.plain += length;
    else shown.compressed += length;
    if (shown.plain + shown.compressed <= LITTLE) return;
    const { size } = layer.data.storage;
    const inflated = layer.storage.size * INFLATES_TO[layer.header.compressionType];
    if (shown.plain <= size && shown.compressed <= inflated) return;
    throw new ImageError(
      'corrupt',
      `${layer.filename}: its tables show more data than the file has room for`,
    );
  }
}
