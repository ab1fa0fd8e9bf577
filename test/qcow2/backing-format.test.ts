// A header without a backing format that gets one: all extensions move. What lies behind the first
// sector can't switch together with it.

import { expect, test } from 'vitest';
import {
  expectOldOrNewThroughout,
  featureNames,
  imageFile,
  pointerIn,
  rewritten,
  unknown,
} from '../support/backing-pointer.ts';

test('feature names that get pushed over the first sector: it is the old one or the new one', async () => {
  const file = imageFile({ backingFile: 'a', extensions: [featureNames] });
  const { bytes, host } = await rewritten(file, 'b', 'qcow2');
  expect(pointerIn(bytes)).toEqual({ backingFile: 'b', backingFormat: 'qcow2' });
  expectOldOrNewThroughout(file, host, { backingFile: 'b', backingFormat: 'qcow2' });
});

test('extensions that lie behind the first sector already: refused, nothing written', async () => {
  const extensions = [featureNames, unknown(700), unknown(30)];
  const file = imageFile({ backingFile: 'a', extensions });
  await expect(rewritten(file, 'b', 'qcow2')).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringContaining('no room to change the backing file'),
  });
});
