// The image that an operand names, and the objects that are known.

import { describe, expect, test } from 'vitest';
import { parseImage } from '../../src/chain/blockdev.ts';
import { OptionDict } from '../../src/chain/option-dict.ts';
import { namedImage } from '../../src/cli/options.ts';

const refusal = (message: string) =>
  expect.objectContaining({ code: 'invalid', message: expect.stringContaining(message) });

describe('the operand', () => {
  test('is a file, with the format that is given', () => {
    expect(namedImage('disk', {})).toEqual({ filename: 'disk', label: 'disk' });
    expect(namedImage('disk', { format: 'raw' })).toMatchObject({
      filename: 'disk',
      format: 'raw',
    });
  });

  const opts = (text: string) => namedImage(text, { imageOpts: true });

  const tree = (text: string) => parseImage(undefined, opts(text).options ?? new OptionDict());

  test('with --image-opts names driver and file', () => {
    const text = 'driver=qcow2,file.driver=file,file.filename=a,,b';
    expect(opts(text)).toMatchObject({ label: text });
    const file = { driver: 'file', filename: 'a,b' };
    expect(tree(text).node).toMatchObject({ driver: 'qcow2', file });
  });

  test.each([
    ['disk', "Cannot find device='disk' nor node-name='disk'"],
    ['driver=qcow2', 'A block device must be specified for "file"'],
    ['file.filename=x,file.driver=nope', "Unknown driver 'nope'"],
  ])('with --image-opts %j is refused', (text, message) => {
    expect(() => tree(text)).toThrow(refusal(message));
  });

  test('with --image-opts goes without a format', () => {
    const both = () => namedImage('file.filename=x', { imageOpts: true, format: 'raw' });
    expect(both).toThrow(refusal('mutually exclusive'));
  });
});
