// JSON as QEMU prints it: one line, members in the order of its tables, ASCII alone. Pure.

import type { JsonOf } from './parser.ts';

export function printJson(value: JsonOf<number | bigint>): string {
  if (typeof value === 'string') return printString(value);
  if (typeof value === 'number') return printNumber(value);
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value)) return `[${value.map(printJson).join(', ')}]`;
  const members = value as Members;
  const texts = inTableOrder(Object.keys(members)).map(
    (key) => `${printString(key)}: ${printJson(members[key] ?? null)}`,
  );
  return `{${texts.join(', ')}}`;
}

type Members = { readonly [key: string]: JsonOf<number | bigint> };

const INDENT = '    ';

/** The same for people: a line for each item, and for the ends of each list. */
export function printPretty(value: JsonOf<number | bigint>, indent = ''): string {
  if (typeof value !== 'object' || value === null) return printJson(value);
  const inner = indent + INDENT;
  const lines: string[] = [];
  if (Array.isArray(value)) for (const item of value) lines.push(printPretty(item, inner));
  else {
    const members = value as Members;
    for (const key of inTableOrder(Object.keys(members))) {
      lines.push(`${printString(key)}: ${printPretty(members[key] ?? null, inner)}`);
    }
  }
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  return `${open}${lines.map((line) => `\n${inner}${line}`).join(',')}\n${indent}${close}`;
}

function printString(text: string): string {
  return JSON.stringify(text)
    .replace(/\\u([0-9a-f]{4})|\\./g, (all, code?: string) =>
      code ? `\\u${code.toUpperCase()}` : all,
    )
    .replace(
      /[\u007f-\uffff]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`,
    );
}

/** As many digits as tell every number from every other one: `%.17g`. */
const DIGITS = 17;

function printNumber(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value < 0 ? '-inf' : 'inf';
  if (Number.isSafeInteger(value)) return Object.is(value, -0) ? '-0' : String(value);
  const [mantissa = '', exponent = '0'] = value.toExponential(DIGITS - 1).split('e');
  const power = Number(exponent);
  if (power >= -4 && power < DIGITS) return withoutZeros(value.toFixed(DIGITS - 1 - power));
  const sign = power < 0 ? '-' : '+';
  return `${withoutZeros(mantissa)}e${sign}${String(Math.abs(power)).padStart(2, '0')}`;
}

function withoutZeros(digits: string): string {
  return digits.includes('.') ? digits.replace(/\.?0+$/, '') : digits;
}

const BUCKETS = 512;

/**
 * Keys in the order in which QEMU walks a dictionary: a hash table of fixed size. Those that share a
 * place stay in their order: there, the one that was entered last comes first.
 */
export function inTableOrder(keys: readonly string[]): readonly string[] {
  const placed = keys.map((key, i) => ({ key, i, bucket: bucketOf(key) }));
  return placed.sort((a, b) => a.bucket - b.bucket || a.i - b.i).map(({ key }) => key);
}

/** The hash of the Trivial Database, in 32 bits. */
function bucketOf(key: string): number {
  const bytes = new TextEncoder().encode(key);
  let value = Math.imul(0x238f13af, bytes.length) >>> 0;
  bytes.forEach((byte, i) => {
    value = (value + (byte << ((i * 5) % 24))) >>> 0;
  });
  return ((Math.imul(1_103_515_243, value) + 12_345) >>> 0) % BUCKETS;
}
