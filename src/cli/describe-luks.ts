// The public part of a LUKS header, as qemu-img describes it.

import type { LuksHeader } from '../qcow2/encryption/luks-header.ts';
import { SECTOR } from '../units.ts';
import type { Description } from './describe-image.ts';

/** Its members in the order of qemu-img. */
export function describeLuks(header: LuksHeader): Description {
  const { spec } = header;
  const slots = header.keySlots.map(
    ({ active, iterations, keyMaterialOffset, stripes }): Description => ({
      active,
      ...(active && { iters: iterations }),
      'key-offset': keyMaterialOffset * SECTOR,
      ...(active && { stripes }),
    }),
  );
  return {
    'ivgen-alg': spec.ivgen,
    'hash-alg': spec.hash,
    'cipher-alg': spec.cipher,
    uuid: header.uuid,
    ...(spec.ivgenHash !== null && { 'ivgen-hash-alg': spec.ivgenHash }),
    format: 'luks',
    'cipher-mode': spec.mode,
    slots,
    'payload-offset': header.payloadOffset * SECTOR,
    'master-key-iters': header.mkDigestIterations,
  };
}
