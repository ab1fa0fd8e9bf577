// Which part of a file's extents is shared with other files, by filefrag(8).

import { run } from './measure.mjs';

/** Bytes in extents that are marked as shared. */
export async function sharedBytes(file) {
  const report = await run(['filefrag', '-v', '-b1', file]);
  // ext: logical_offset: physical_offset: length: expected: flags:
  const lines = report.matchAll(/^ *\d+: *\d+\.\. *\d+: *\d+\.\. *\d+: *(\d+):(.*)$/gm);
  let bytes = 0;
  for (const [, length, rest] of lines) if (rest.includes('shared')) bytes += Number(length);
  return bytes;
}
