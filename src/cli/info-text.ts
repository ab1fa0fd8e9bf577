// The human output of `info`, line by line as qemu-img prints it.

import type { Description, Value } from './describe-image.ts';

export function infoText(image: Description): string {
  const lines = [
    `image: ${image['filename']}`,
    `file format: ${image['format']}`,
    `virtual size: ${sizeText(image['virtual-size'] as number)} (${image['virtual-size']} bytes)`,
    `disk size: ${diskSizeText(image['actual-size'])}`,
  ];
  if (image['encrypted']) lines.push('encrypted: yes');
  if (image['cluster-size'] !== undefined) lines.push(`cluster_size: ${image['cluster-size']}`);
  if (image['dirty-flag']) lines.push('cleanly shut down: no');
  lines.push(...backingLines(image), ...snapshotLines(image));
  const specific = image['format-specific'] as { readonly data: Description } | undefined;
  if (specific !== undefined) {
    lines.push('Format specific information:', ...dump(specific.data, 1));
  }
  lines.push(...safetyLines(image));
  return `${lines.join('\n')}\n`;
}

function safetyLines(image: Description): string[] {
  const concerns = image['safety'] as readonly Description[] | undefined;
  if (concerns === undefined) return [];
  if (concerns.length === 0) return ['Safety: nothing to tell'];
  return ['Safety:', ...concerns.map(({ kind, about }) => `    ${kind}: ${about}`)];
}

function diskSizeText(bytes: Value | undefined): string {
  return typeof bytes === 'number' ? sizeText(bytes) : 'unavailable';
}

function backingLines(image: Description): string[] {
  const name = image['backing-filename'];
  if (name === undefined) return [];
  const full = image['full-backing-filename'];
  const actual = full === name ? '' : ` (actual path: ${full})`;
  const format = image['backing-filename-format'];
  return [
    `backing file: ${name}${actual}`,
    ...(format === undefined ? [] : [`backing file format: ${format}`]),
  ];
}

/** Three significant digits in the largest unit that keeps the number below 1000. */
export function sizeText(bytes: number): string {
  const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
  let unit = 0;
  let value = bytes;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1024;
  return `${threeDigits(value)} ${units[unit]}B`;
}

/** As printf's %.3g has it, for numbers below 1024: a tie goes to the even digit. */
function threeDigits(value: number): string {
  const scale = value < 1 ? 1000 : value < 10 ? 100 : value < 100 ? 10 : 1;
  const scaled = value * scale;
  const below = Math.floor(scaled);
  const rounded = scaled - below === 0.5 ? below + (below % 2) : Math.round(scaled);
  return rounded === 1000 && scale === 1 ? '1e+03' : String(rounded / scale);
}

function snapshotLines(image: Description): string[] {
  const snapshots = image['snapshots'] as readonly Description[] | undefined;
  return snapshots === undefined ? [] : snapshotTable(snapshots);
}

/** A list of snapshots with its head, line by line. */
export function snapshotTable(snapshots: readonly Description[]): string[] {
  const row = (id: string, tag: string, ...rest: readonly [string, string, string, string]) => {
    const [size, date, clock, icount] = rest;
    return (
      `${padTo(id, 9)} ${padTo(tag, 16)} ${size.padStart(8)}${date.padStart(20)}` +
      `${clock.padStart(13)}${icount.padStart(11)}`
    );
  };
  return [
    'Snapshot list:',
    row('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'),
    ...snapshots.map((snapshot) =>
      row(
        String(snapshot['id']),
        String(snapshot['name']),
        sizeText(snapshot['vm-state-size'] as number),
        dateText(snapshot['date-sec'] as number),
        clockText(snapshot['vm-clock-sec'] as number, snapshot['vm-clock-nsec'] as number),
        String(snapshot['icount'] ?? ''),
      ),
    ),
  ];
}

/** As printf pads: it counts bytes. */
function padTo(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - Buffer.byteLength(text)));
}

const two = (value: number): string => String(value).padStart(2, '0');

function dateText(seconds: number): string {
  const date = new Date(seconds * 1000);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function clockText(seconds: number, nanoseconds: number): string {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  const thousandths = String(Math.floor(nanoseconds / 1e6)).padStart(3, '0');
  return `${two(hours)}:${two(minutes)}:${two(seconds % 60)}.${thousandths}`;
}

function dump(value: Description | readonly Value[], depth: number): string[] {
  const indent = '    '.repeat(depth);
  const isList = Array.isArray(value);
  return Object.entries(value).flatMap(([key, member]): string[] => {
    const label = isList ? `[${key}]` : key.replaceAll('-', ' ');
    if (typeof member === 'object') {
      return [`${indent}${label}:`, ...dump(member as Description, depth + 1)];
    }
    return [`${indent}${label}: ${member}`];
  });
}
