// What the L1 tables of a chain take: all of them are in memory.

import { ImageError } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { MIB } from '../units.ts';

const MAX_L1_TOTAL = 192 * MIB;

/** Throws `unsupported` where they take more than a chain of any use. */
export function checkL1Total(layers: readonly Layer[]): void {
  const bytes = (layer: Layer) => (layer instanceof Qcow2Image ? layer.tables.l1Entries * 8 : 0);
  const total = layers.reduce((sum, layer) => sum + bytes(layer), 0);
  if (total <= MAX_L1_TOTAL) return;
  const message = `The L1 tables of the chain take more than ${MAX_L1_TOTAL / MIB} MiB`;
  throw new ImageError('unsupported', message);
}
