// What must not be written as if it were data, whatever refcounts and table entries of a damaged
// image say.

import { ImageError } from '../errors.ts';
import type { Tables } from './tables.ts';

/** Throws `corrupt` where a range of the file holds the header or a table that is known by place. */
export function checkNoTable(
  filename: string,
  tables: Tables,
  start: number,
  end: number,
  claim: string,
): void {
  const { l1Offset, l1Entries, refcountTablePlace } = tables;
  const overlaps = (offset: number, length: number) => offset < end && start < offset + length;
  const what = overlaps(0, 1)
    ? 'the header'
    : overlaps(l1Offset, l1Entries * 8)
      ? 'the active L1 table'
      : overlaps(refcountTablePlace.offset, refcountTablePlace.length)
        ? 'the refcount table'
        : undefined;
  if (what === undefined) return;
  throw new ImageError('corrupt', `${filename}: ${claim} ${what}`, {
    hint: `Run 'qemu-img check -r all' on a copy of the image first.`,
  });
}
