// The -o options of `create`: their names, order and values, and what is wrong with them.

import type { ImageError } from '../errors.ts';
import { parseExactSize } from '../units.ts';
import { namedValues } from './option-list.ts';

type Kind = 'str' | 'size' | 'num' | 'bool (on/off)';

interface Option {
  readonly name: string;
  readonly kind: Kind;
  readonly about: string;
  /** Printed where no other value is given. */
  readonly value?: string;
  /** Of the file, whatever the format. */
  readonly ofFile?: boolean;
}

const SIZE: Option = { name: 'size', kind: 'size', about: 'Virtual disk size' };
const NOCOW: Option = {
  name: 'nocow',
  kind: 'bool (on/off)',
  about: 'Turn off copy-on-write (valid only on btrfs)',
  ofFile: true,
};
const EXTENT_SIZE_HINT: Option = {
  name: 'extent_size_hint',
  kind: 'size',
  about: 'Extent size hint for the image file, 0 to disable',
  ofFile: true,
};
const preallocation = (modes: string) =>
  ({
    name: 'preallocation',
    kind: 'str',
    about: `Preallocation mode (allowed values: ${modes})`,
  }) as const;
const text = (name: string, about: string): Option => ({ name, kind: 'str', about });

const ENCRYPTION: readonly Option[] = [
  {
    name: 'encryption',
    kind: 'bool (on/off)',
    about: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  text('encrypt.format', "Encrypt the image, format choices: 'aes', 'luks'"),
  text('encrypt.key-secret', 'ID of secret providing qcow AES key or LUKS passphrase'),
  text('encrypt.cipher-alg', 'Name of encryption cipher algorithm'),
  text('encrypt.cipher-mode', 'Name of encryption cipher mode'),
  text('encrypt.ivgen-alg', 'Name of IV generator algorithm'),
  text('encrypt.ivgen-hash-alg', 'Name of IV generator hash algorithm'),
  text('encrypt.hash-alg', 'Name of encryption hash algorithm'),
  { name: 'encrypt.iter-time', kind: 'num', about: 'Time to spend in PBKDF in milliseconds' },
];

/** In the order in which qemu-img prints them. */
const QCOW2: readonly Option[] = [
  ...ENCRYPTION,
  { name: 'cluster_size', kind: 'size', about: 'qcow2 cluster size', value: '65536' },
  {
    name: 'extended_l2',
    kind: 'bool (on/off)',
    about: 'Extended L2 tables',
    value: 'off',
  },
  preallocation('off, metadata, falloc, full'),
  {
    name: 'compression_type',
    kind: 'str',
    about: 'Compression method used for image cluster compression',
    value: 'zlib',
  },
  SIZE,
  { name: 'compat', kind: 'str', about: 'Compatibility level (v2 [0.10] or v3 [1.1])' },
  { name: 'backing_file', kind: 'str', about: 'File name of a base image' },
  { name: 'backing_fmt', kind: 'str', about: 'Image format of the base image' },
  { name: 'data_file', kind: 'str', about: 'File name of an external data file' },
  {
    name: 'data_file_raw',
    kind: 'bool (on/off)',
    about: 'The external data file must stay valid as a raw image',
  },
  {
    name: 'lazy_refcounts',
    kind: 'bool (on/off)',
    about: 'Postpone refcount updates',
    value: 'off',
  },
  {
    name: 'refcount_bits',
    kind: 'num',
    about: 'Width of a reference count entry in bits',
    value: '16',
  },
  NOCOW,
  EXTENT_SIZE_HINT,
];
const RAW: readonly Option[] = [
  SIZE,
  NOCOW,
  { ...preallocation('off, falloc, full'), ofFile: true },
  EXTENT_SIZE_HINT,
];

const tableOf = (format: string): readonly Option[] => (format === 'qcow2' ? QCOW2 : RAW);

export function isOn(options: ReadonlyMap<string, string>, name: string): boolean {
  return /^(on|yes|true|y)$/.test(options.get(name) ?? 'off');
}

export type Fail = (message: string) => ImageError;

/** Name -> value as it will be printed. `text`: all that was given with -o, joined by commas. */
export function parseCreateOptions(format: string, text: string, fail: Fail): Map<string, string> {
  const options = new Map<string, string>();
  for (const { name, value } of namedValues(text)) {
    // Names a set of options of QEMU, and this one need not have a name.
    if (name === 'id') continue;
    const option = tableOf(format).find((each) => each.name === name);
    if (option === undefined) throw fail(`Invalid parameter '${name}'`);
    options.set(name, checkValue(name, option.kind, value, fail));
  }
  return options;
}

function checkValue(name: string, kind: Kind, value: string, fail: Fail): string {
  if (kind === 'bool (on/off)' && !/^(on|yes|true|y|off|no|false|n)$/.test(value)) {
    throw fail(`Parameter '${name}' expects 'on' or 'off'`);
  }
  if (kind === 'num') return checkNumber(name, value, fail);
  if (kind !== 'size') return value;
  const size = parseExactSize(value);
  if (size === 'too-large') throw fail(`Value '${value}' is out of range for parameter '${name}'`);
  if (size === undefined) {
    throw fail(
      `Parameter '${name}' expects a non-negative number below 2^64\n` +
        'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n' +
        'and exabytes, respectively.',
    );
  }
  return signed(size);
}

/** As strtoull(3) reads them: with a sign, in hexadecimal, in octal. */
function checkNumber(name: string, value: string, fail: Fail): string {
  const match = /^\s*([+-]?)(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.exec(value);
  if (match === null) throw fail(`Parameter '${name}' expects a number`);
  const [, sign, digits = '0'] = match;
  const number = BigInt(/^0[0-7]/.test(digits) ? `0o${digits}` : digits);
  if (number >= 2n ** 64n) {
    throw fail(`Value '${value}' is too large for parameter '${name}'`);
  }
  return signed(sign === '-' ? -number : number);
}

/** QEMU keeps 64 bits, and prints them as a signed number. */
const signed = (value: bigint): string => String(BigInt.asIntN(64, value));

export function formattingLine(
  filename: string,
  format: string,
  options: ReadonlyMap<string, string>,
): string {
  const words = tableOf(format).flatMap(({ name, value }) => {
    const shown = options.get(name) ?? value;
    // As it could be given again: a comma is doubled.
    return shown === undefined ? [] : [`${name}=${shown.replaceAll(',', ',,')}`];
  });
  return `Formatting '${filename}', fmt=${format} ${words.join(' ')}\n`;
}

/** The options of a format by name; those of the file only where it is named. */
export function optionsHelp(format: string, target: 'file' | 'export' | undefined): string {
  const lines = tableOf(format)
    .filter(({ ofFile }) => target === 'file' || !ofFile)
    .map(({ name, kind, about }) => `  ${`${name}=<${kind}>`.padEnd(22)} - ${about}\n`)
    .sort()
    .join('');
  if (target !== undefined) return `Supported options:\n${lines}`;
  return (
    `Supported ${format} options:\n${lines}\n` +
    'The protocol level may support further options.\n' +
    'Specify the target filename to include those options.\n'
  );
}
