// QEMU's warning, while it opens it, of an image that is to be written and was taken for raw.

import type { ChainLayer } from '../chain/chain.ts';
import type { ProgramContext } from './program.ts';

export function warnIfTakenForRaw(
  { layer, formatKnown, filename }: ChainLayer,
  program: ProgramContext,
): void {
  if (formatKnown || layer.format !== 'raw') return;
  const indent = ' '.repeat(9);
  program.err(
    `WARNING: Image format was not specified for '${filename}' and probing guessed raw.\n` +
      `${indent}Automatically detecting the format is dangerous for raw images, ` +
      'write operations on block 0 will be restricted.\n' +
      `${indent}Specify the 'raw' format explicitly to remove the restrictions.\n`,
  );
}
