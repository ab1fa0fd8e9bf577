// A compressed cluster between 2^53 and 2^56: its offset is no exact number.

import { expect, test } from 'vitest';
import { decodeL2Entry } from '../../src/qcow2/l2-entry.ts';

test('a compressed offset that a number can not hold exactly is refused, not rounded', () => {
  // 2^53 + 1 is read as 2^53.
  const high = 0x4000_0000 | 0x0020_0000;
  const expected = expect.objectContaining({ code: 'corrupt' });
  expect(() => decodeL2Entry(high, 1, { clusterBits: 9, externalData: false }, 3)).toThrow(
    expected,
  );
});
