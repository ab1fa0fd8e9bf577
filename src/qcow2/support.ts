// Which features of the format keep this release from reading or writing an image's data.

import type { Header } from './header.ts';
import { CRYPT_NONE, INCOMPATIBLE } from './spec.ts';

/** The feature in words; null if the guest's data can be read. */
export function unsupportedForReading(header: Header): string | null {
  const features = header.incompatibleFeatures;
  if (features & INCOMPATIBLE.extendedL2) return 'extended L2 entries';
  return header.cryptMethod === CRYPT_NONE ? null : 'encryption';
}
