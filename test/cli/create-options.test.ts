// The -o options of create.

import { describe, expect, test } from 'vitest';
import { toImageOptions, toRawOptions } from '../../src/cli/create-checks.ts';
import { formattingLine, optionsHelp, parseCreateOptions } from '../../src/cli/create-options.ts';
import { ImageError } from '../../src/errors.ts';

const fail = (message: string) => new ImageError('invalid', `disk: ${message}`);
const parse = (...texts: readonly string[]) =>
  Object.fromEntries(parseCreateOptions('qcow2', texts.join(','), fail));
const SECRETS = new Map([['s', new TextEncoder().encode('geheim')]]);
const toOptions = (text: string, size = 1024 * 1024) =>
  toImageOptions(parseCreateOptions('qcow2', text, fail), BigInt(size), SECRETS, fail);

const refusal = (message: string) =>
  expect.objectContaining({ code: 'invalid', message: expect.stringContaining(message) });

test.each<[string, readonly string[], Record<string, string>]>([
  ['nothing', [], {}],
  ['sizes in bytes', ['cluster_size=64k,size=1G'], { cluster_size: '65536', size: '1073741824' }],
  ['a switch by its name', ['lazy_refcounts'], { lazy_refcounts: 'on' }],
  ['a switch with a value', ['lazy_refcounts=off'], { lazy_refcounts: 'off' }],
  ['a switch by no and its name', ['nolazy_refcounts'], { lazy_refcounts: 'off' }],
  ['a switch in other words', ['lazy_refcounts=yes'], { lazy_refcounts: 'yes' }],
  ['numbers as C has them', ['refcount_bits=010'], { refcount_bits: '8' }],
  [
    '64 bits with a sign',
    ['refcount_bits=-1,size=8E'],
    { refcount_bits: '-1', size: String(-(2n ** 63n)) },
  ],
  ['an id, which nobody needs', ['id=x,compat=v3'], { compat: 'v3' }],
  ['the last of several', ['compat=0.10', 'compat=1.1'], { compat: '1.1' }],
  ['several texts', ['compat=1.1', 'refcount_bits=8'], { compat: '1.1', refcount_bits: '8' }],
  [
    'a value with two commas',
    ['backing_file=a,,b,compat=1.1'],
    { backing_file: 'a,b', compat: '1.1' },
  ],
  ['a value that begins with a comma', ['backing_file=,,b'], { backing_file: ',b' }],
  ['a value with an equals sign', ['backing_file=a=b'], { backing_file: 'a=b' }],
  ['an empty value', ['backing_file='], { backing_file: '' }],
])('%s', (_what, texts, expected) => {
  expect(parse(...texts)).toEqual(expected);
});

test.each([
  ['nope=1', "Invalid parameter 'nope'"],
  ['compat=1.1,,size=1M', "Parameter 'version' does not accept value"],
  ['lazy_refcounts=maybe', "Parameter 'lazy_refcounts' expects 'on' or 'off'"],
  ['refcount_bits=many', "Parameter 'refcount_bits' expects a number"],
  ['refcount_bits=1.5', "Parameter 'refcount_bits' expects a number"],
  ['refcount_bits=18446744073709551616', "Value '18446744073709551616' is too large"],
  ['size=16E', "Value '16E' is out of range for parameter 'size'"],
  ['nocow', "Invalid parameter 'cow'"],
  ['cluster_size=big', "Parameter 'cluster_size' expects a non-negative number below 2^64"],
  ['size=-1', "Parameter 'size' expects a non-negative number below 2^64"],
])('%j is refused', (text, message) => {
  expect(() => toOptions(text)).toThrow(refusal(message));
});

test('a raw file has few options', () => {
  expect(parseCreateOptions('raw', 'size=1k', fail).get('size')).toBe('1024');
  const other = () => parseCreateOptions('raw', 'compat=1.1', fail);
  expect(other).toThrow(refusal("Invalid parameter 'compat'"));
});

describe('the image that they describe', () => {
  test('has its defaults', () => {
    expect(toOptions('')).toEqual({
      size: 1024 * 1024,
      clusterSize: 65536,
      version: 3,
      refcountBits: 16,
      compressionType: 'zlib',
      lazyRefcounts: false,
      extendedL2: false,
      preallocation: 'off',
    });
  });

  test('has what was asked for', () => {
    const text =
      'cluster_size=4k,compat=v3,refcount_bits=1,compression_type=zstd,lazy_refcounts,' +
      'backing_file=base,backing_fmt=raw';
    expect(toOptions(text)).toEqual({
      size: 1024 * 1024,
      clusterSize: 4096,
      version: 3,
      refcountBits: 1,
      compressionType: 'zstd',
      lazyRefcounts: true,
      extendedL2: false,
      preallocation: 'off',
      backingFile: 'base',
      backingFormat: 'raw',
    });
  });

  test.each(['compat=0.10', 'compat=v2'])('%s is version 2', (text) => {
    expect(toOptions(text).version).toBe(2);
  });

  test.each([
    ['compat=2', "Parameter 'version' does not accept value '2'"],
    ['compression_type=lz4', "Parameter 'compression-type' does not accept value 'lz4'"],
    ['cluster_size=256', 'Cluster size must be a power of two between 512 and 2048k'],
    ['cluster_size=4M', 'Cluster size must be a power of two between 512 and 2048k'],
    ['cluster_size=1000', 'Cluster size must be a power of two between 512 and 2048k'],
    ['cluster_size=0', 'Cluster size must be a power of two between 512 and 2048k'],
    ['refcount_bits=0', 'Refcount width must be a power of two'],
    ['refcount_bits=128', 'Refcount width must be a power of two'],
    ['refcount_bits=12', 'Refcount width must be a power of two'],
    ['compat=0.10,refcount_bits=8', 'Different refcount widths than 16 bits require'],
    ['compat=0.10,lazy_refcounts', 'Lazy refcounts only supported with compatibility level 1.1'],
    ['compat=0.10,compression_type=zstd', 'Non-zlib compression type is only supported'],
    ['backing_fmt=raw', 'Backing format cannot be used without backing file'],
    ['preallocation=some', "Parameter 'preallocation' does not accept value 'some'"],
    ['preallocation=full,backing_file=x,backing_fmt=raw', 'Backing file and preallocation can'],
    ['extent_size_hint=4G', 'Extent size hint is too large'],
    ['data_file_raw=on', 'data-file-raw requires data-file'],
    ['compat=0.10,data_file=x', 'External data files are only supported with compatibility level'],
    ['extended_l2=on,cluster_size=8k', 'Extended L2 entries are only supported with cluster sizes'],
    ['extended_l2=on,compat=v2', 'Extended L2 entries are only supported with compatibility level'],
  ])('with %s is refused', (text, message) => {
    expect(() => toOptions(text)).toThrow(refusal(message));
  });

  test('that the L1 table can not reach is refused', () => {
    const tooLarge = refusal('The image size is too large');
    expect(() => toOptions('cluster_size=512', 2 ** 37)).not.toThrow();
    expect(() => toOptions('cluster_size=512', 2 ** 37 + 512)).toThrow(tooLarge);
    expect(() => toOptions('', 2 ** 60)).toThrow(tooLarge);
    const beyond = (size: bigint) => () => toImageOptions(new Map(), size, SECRETS, fail);
    expect(beyond(2n ** 63n - 1n)).toThrow(refusal('Image size cannot be negative'));
    expect(beyond(2n ** 63n - 1024n)).toThrow(refusal('exceeds maximum(9223372035781033984)'));
  });

  test('with subclusters may be preallocated over a backing file', () => {
    const text = 'extended_l2=on,preallocation=full,backing_file=x,backing_fmt=raw';
    expect(toOptions(text)).toMatchObject({ extendedL2: true, preallocation: 'full' });
  });

  test('that the L1 table can not reach with extended L2 entries is refused', () => {
    const text = 'extended_l2=on,cluster_size=16k';
    expect(() => toOptions(text, 2 ** 46)).not.toThrow();
    expect(() => toOptions(text, 2 ** 46 + 512)).toThrow(refusal('The image size is too large'));
  });

  test.each(['preallocation=off', 'extended_l2=off', 'encryption=off'])('%s is fine', (text) => {
    expect(() => toOptions(text)).not.toThrow();
  });
});

test('the line that says what is made has the options in their order', () => {
  const options = parseCreateOptions('qcow2', 'backing_file=a b,,"c",size=1M', fail);
  expect(formattingLine('disk', 'qcow2', options)).toBe(
    "Formatting 'disk', fmt=qcow2 cluster_size=65536 extended_l2=off compression_type=zlib " +
      'size=1048576 backing_file=a b,,"c" lazy_refcounts=off refcount_bits=16\n',
  );
  const raw = parseCreateOptions('raw', 'size=512', fail);
  expect(formattingLine('disk', 'raw', raw)).toBe("Formatting 'disk', fmt=raw size=512\n");
});

test('the list of options has those of the file only where one is named', () => {
  expect(optionsHelp('raw', undefined)).toContain('size=<size>            - Virtual disk size');
  expect(optionsHelp('raw', undefined)).not.toContain('nocow');
  expect(optionsHelp('raw', 'file')).toContain('nocow=<bool (on/off)>  - ');
});

test('options of every feature are listed', () => {
  expect(optionsHelp('qcow2', 'file')).toContain('encrypt.format=<str>');
  expect(optionsHelp('qcow2', 'file')).toContain('extended_l2');
});

test.each([
  ['preallocation=some', 'invalid parameter value: some'],
  ['preallocation=metadata', 'Unsupported preallocation mode: metadata'],
  ['extent_size_hint=4G', 'Extent size hint is too large'],
])('a raw file with %s is refused', (text, message) => {
  const options = parseCreateOptions('raw', text, fail);
  expect(() => toRawOptions(options, 512n, fail)).toThrow(refusal(message));
});
