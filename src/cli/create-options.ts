// The -o options of `create`: their names, order and values, and what is wrong with them.

import { ImageError } from '../errors.ts';
import type { CreateOptions } from '../qcow2/create.ts';
import { geometryOf, l1EntriesFor } from '../qcow2/geometry.ts';
import { MAX_L1_BYTES } from '../qcow2/spec.ts';
import { parseSize } from '../units.ts';
import { splitOptions } from './option-list.ts';

type Kind = 'text' | 'size' | 'number' | 'switch';

/** In the order in which qemu-img prints them; those with a default are always printed. */
const QCOW2: readonly { readonly name: string; readonly kind: Kind; readonly value?: string }[] = [
  { name: 'cluster_size', kind: 'size', value: '65536' },
  { name: 'extended_l2', kind: 'switch', value: 'off' },
  { name: 'preallocation', kind: 'text' },
  { name: 'compression_type', kind: 'text', value: 'zlib' },
  { name: 'size', kind: 'size' },
  { name: 'compat', kind: 'text' },
  { name: 'backing_file', kind: 'text' },
  { name: 'backing_fmt', kind: 'text' },
  { name: 'data_file', kind: 'text' },
  { name: 'data_file_raw', kind: 'switch' },
  { name: 'encryption', kind: 'switch' },
  { name: 'encrypt.format', kind: 'text' },
  { name: 'encrypt.key-secret', kind: 'text' },
  { name: 'lazy_refcounts', kind: 'switch', value: 'off' },
  { name: 'refcount_bits', kind: 'number', value: '16' },
];
const RAW: typeof QCOW2 = [
  { name: 'size', kind: 'size' },
  { name: 'preallocation', kind: 'text' },
];

const tableOf = (format: string): typeof QCOW2 => (format === 'qcow2' ? QCOW2 : RAW);

type Fail = (message: string) => ImageError;

/** Name -> value as it will be printed. */
export function parseCreateOptions(
  format: string,
  texts: readonly string[],
  fail: Fail,
): Map<string, string> {
  const options = new Map<string, string>();
  for (const part of texts.flatMap(splitOptions)) {
    const at = part.indexOf('=');
    const name = at < 0 ? part : part.slice(0, at);
    const option = tableOf(format).find((each) => each.name === name);
    if (option === undefined) throw fail(`Invalid parameter '${name}'`);
    const value = at < 0 && option.kind === 'switch' ? 'on' : part.slice(at + 1);
    options.set(name, checkValue(name, option.kind, value, fail));
  }
  return options;
}

function checkValue(name: string, kind: Kind, value: string, fail: Fail): string {
  if (kind === 'switch' && value !== 'on' && value !== 'off') {
    throw fail(`Parameter '${name}' expects 'on' or 'off'`);
  }
  if (kind === 'number' && !/^\d+$/.test(value)) {
    throw fail(`Parameter '${name}' expects a number`);
  }
  if (kind !== 'size') return value;
  const size = parseSize(value);
  if (size === undefined) {
    throw new ImageError(
      'invalid',
      `${fail('').message}Parameter '${name}' expects a non-negative number below 2^64\n` +
        'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n' +
        'and exabytes, respectively.',
    );
  }
  return String(size);
}

export function formattingLine(
  filename: string,
  format: string,
  options: ReadonlyMap<string, string>,
): string {
  const words = tableOf(format).flatMap(({ name, value }) => {
    const shown = options.get(name) ?? value;
    return shown === undefined ? [] : [`${name}=${quoteValue(shown)}`];
  });
  return `Formatting '${filename}', fmt=${format} ${words.join(' ')}\n`;
}

/** Values that a shell or QEMU would take apart are put in quotes. */
function quoteValue(value: string): string {
  if (!/[ ,'"\\=]/.test(value)) return value;
  return `"${value.replaceAll('"', '\\"')}"`;
}

/** The image that the options describe. Throws for what makes no sense or is not supported. */
export function toImageOptions(
  options: ReadonlyMap<string, string>,
  size: number,
  fail: Fail,
): CreateOptions {
  const on = (name: string) => options.get(name) === 'on';
  refuseUnsupported(options, fail);
  const compat = options.get('compat') ?? '1.1';
  if (!['0.10', '1.1', 'v2', 'v3'].includes(compat)) {
    throw fail(`Parameter 'version' does not accept value '${compat}'`);
  }
  const version = compat === '0.10' || compat === 'v2' ? 2 : 3;
  const compression = options.get('compression_type') ?? 'zlib';
  if (compression !== 'zlib' && compression !== 'zstd') {
    throw fail(`Parameter 'compression-type' does not accept value '${compression}'`);
  }
  const clusterSize = Number(options.get('cluster_size') ?? 65536);
  if (!isPowerOfTwo(clusterSize) || clusterSize < 512 || clusterSize > 2 ** 21) {
    throw fail('Cluster size must be a power of two between 512 and 2048k');
  }
  const newer = 'and above (use version=v3 or greater)';
  if (version === 2 && on('lazy_refcounts')) {
    throw fail(`Lazy refcounts only supported with compatibility level 1.1 ${newer}`);
  }
  const refcountBits = Number(options.get('refcount_bits') ?? 16);
  if (!isPowerOfTwo(refcountBits) || refcountBits > 64) {
    throw fail('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version === 2 && refcountBits !== 16) {
    throw fail(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above ' +
        '(use version=v3 or greater)',
    );
  }
  if (version === 2 && compression === 'zstd') {
    throw fail(`Non-zlib compression type is only supported with compatibility level 1.1 ${newer}`);
  }
  const geometry = geometryOf(Math.log2(clusterSize), Math.log2(refcountBits), false);
  if (!Number.isSafeInteger(size) || l1EntriesFor(size, geometry) * 8 > MAX_L1_BYTES) {
    throw fail(
      "The image size is too large for file format 'qcow2' (try using a larger cluster size)",
    );
  }
  const backingFile = options.get('backing_file');
  const backingFormat = options.get('backing_fmt');
  if (backingFormat !== undefined && backingFile === undefined) {
    throw fail('Backing format cannot be used without backing file');
  }
  return {
    size,
    clusterSize,
    version,
    refcountBits,
    compressionType: compression,
    lazyRefcounts: on('lazy_refcounts'),
    ...(backingFile !== undefined && { backingFile }),
    ...(backingFormat !== undefined && { backingFormat }),
  };
}

function refuseUnsupported(options: ReadonlyMap<string, string>, fail: Fail): void {
  const preallocation = options.get('preallocation') ?? 'off';
  if (!['off', 'metadata', 'falloc', 'full'].includes(preallocation)) {
    throw fail(`Parameter 'preallocation' does not accept value '${preallocation}'`);
  }
  const used = [
    ...(preallocation === 'off' ? [] : [`preallocation=${preallocation}`]),
    ...(options.get('extended_l2') === 'on' ? ['extended_l2=on'] : []),
    ...['data_file', 'data_file_raw', 'encryption', 'encrypt.format', 'encrypt.key-secret'].filter(
      (name) => options.has(name) && options.get(name) !== 'off',
    ),
  ];
  const [first] = used;
  if (first !== undefined) throw fail(`The option '${first}' is not supported yet`);
}

function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value));
}
