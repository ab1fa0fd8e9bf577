// Sizes whose words differ from qemu-img's (7.2, measured with raw files of these sizes).

import { expect, test } from 'vitest';
import { sizeText } from '../../src/cli/info-text.ts';

test.each([
  // Below 1 of its unit, %.3g has three digits behind the point.
  [1_024_000, '0.977 MiB'],
  [1_040_384, '0.992 MiB'],
  // What rounds to 1000 has no three digits.
  [1_023_488, '1e+03 KiB'],
])('%d bytes are %s', (bytes, words) => {
  expect(sizeText(bytes)).toBe(words);
});
