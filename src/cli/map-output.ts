// What `map` prints about a range, as qemu-img does.

import type { BlockStatus } from '../chain/block-status.ts';

export const MAP_HEADING = `${['Offset', 'Length', 'Mapped to'].map(column).join('')}File\n`;

/** Only bytes that are there have a line; undefined where they can't be told by their place. */
export function mapLine(
  { kind, offset, length, host }: BlockStatus,
  filename: string,
): string | undefined {
  if (kind !== 'data') return '';
  if (host === null) return undefined;
  return `${[offset, length, host.offset].map(hex).map(column).join('')}${filename}\n`;
}

function column(text: string): string {
  return text.padEnd(16);
}

/** As printf's %#x has it: no mark before a zero. */
function hex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}

/** One object on a line, without what ends it. */
export function mapObject({ kind, offset, length, depth, host }: BlockStatus): string {
  const members = [
    `"start": ${offset}`,
    ` "length": ${length}`,
    ` "depth": ${depth}`,
    ` "present": ${kind !== 'absent'}`,
    ` "zero": ${kind !== 'data'}`,
    ` "data": ${kind === 'data' || kind === 'hole'}`,
    ...(host === null ? [] : [` "offset": ${host.offset}`]),
  ];
  return `{ ${members.join(',')}}`;
}

/** Where nothing was asked for: QEMU has one object even so. */
export function emptyMapObject(start: number): string {
  return (
    `{ "start": ${BigInt(start)}, "length": 0, "depth": 0, ` +
    '"present": false, "zero": false, "data": false}'
  );
}
