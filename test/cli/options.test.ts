// The image that an operand names, and the objects that are known.

import { describe, expect, test } from 'vitest';
import { namedImage, parseObjects } from '../../src/cli/options.ts';

const refusal = (message: string) =>
  expect.objectContaining({ code: 'invalid', message: expect.stringContaining(message) });

describe('the operand', () => {
  test('is a file, with the format that is given', () => {
    expect(namedImage('disk', {})).toEqual({ filename: 'disk', label: 'disk', hasKey: false });
    expect(namedImage('disk', { format: 'raw' })).toMatchObject({
      filename: 'disk',
      format: 'raw',
    });
  });

  const opts = (text: string) => namedImage(text, { imageOpts: true });

  test('with --image-opts names driver and file', () => {
    const text = 'driver=qcow2,file.driver=file,file.filename=a,,b';
    expect(opts(text)).toEqual({ filename: 'a,b', label: text, hasKey: false, format: 'qcow2' });
    expect(opts('driver=raw,filename=x')).toMatchObject({ filename: 'x', format: 'raw' });
    expect(opts('file.driver=host_device,file.filename=/dev/x').filename).toBe('/dev/x');
  });

  test('with --image-opts may name a key', () => {
    const text = 'file.filename=x,encrypt.format=luks,encrypt.key-secret=s';
    expect(opts(text)).toMatchObject({ filename: 'x', hasKey: true });
  });

  test.each([
    ['disk', "Cannot find device='disk' nor node-name='disk'"],
    ['driver=qcow2', 'A block device must be specified for "file"'],
    ['file.filename=x,file.driver=nbd', "Unknown driver 'nbd'"],
    ['file.filename=x,lazy-refcounts=on', "The option 'lazy-refcounts' is not supported"],
  ])('with --image-opts %j is refused', (text, message) => {
    expect(() => opts(text)).toThrow(refusal(message));
  });

  test('with --image-opts goes without a format', () => {
    const both = () => namedImage('file.filename=x', { imageOpts: true, format: 'raw' });
    expect(both).toThrow(refusal('mutually exclusive'));
  });
});

describe('an object', () => {
  test.each(['secret,id=s,data=abc', 'secret,id=s,file=key', 'qom-type=secret,id=s,file=key'])(
    '%j is known',
    (text) => {
      expect(() => parseObjects([text])).not.toThrow();
    },
  );

  test.each([
    ['iothread,id=x', "Parameter 'qom-type' does not accept value 'iothread'"],
    ['secret,data=abc', "Parameter 'id' is missing"],
    ['secret,id=s', "Either 'file' or 'data' must be provided"],
    ['secret,id=s,file=a,data=b', "'file' and 'data' are mutually exclusive"],
  ])('%j is refused', (text, message) => {
    expect(() => parseObjects([text])).toThrow(refusal(message));
  });
});
