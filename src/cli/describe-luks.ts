// The public part of a LUKS1 header ("LUKS On-Disk Format Specification", phdr and key slots).

import type { Storage } from '../io/storage.ts';
import type { Description } from './describe-image.ts';

const HEADER_BYTES = 592;
const KEY_SLOTS = { count: 8, offset: 208, bytes: 48 } as const;
const SLOT_ACTIVE = 0x00ac71f3;
const SECTOR = 512;

/** The LUKS header at `offset` of the file, its members in the order of qemu-img. */
export async function describeLuks(storage: Storage, offset: number): Promise<Description> {
  const bytes = new Uint8Array(HEADER_BYTES);
  await storage.read(offset, bytes);
  const view = new DataView(bytes.buffer);
  const text = (start: number, length: number) =>
    new TextDecoder().decode(bytes.subarray(start, start + length)).replace(/\0.*$/s, '');
  const cipher = text(8, 32);
  const [mode = '', ivgen = '', ivgenHash] = text(40, 32).split(/[-:]/);
  // XTS uses two keys of half the size each.
  const keyBits = view.getUint32(108) * 8 * (mode === 'xts' ? 0.5 : 1);
  const slots = Array.from({ length: KEY_SLOTS.count }, (_, i): Description => {
    const at = KEY_SLOTS.offset + i * KEY_SLOTS.bytes;
    const active = view.getUint32(at) === SLOT_ACTIVE;
    return {
      active,
      ...(active && { iters: view.getUint32(at + 4) }),
      'key-offset': view.getUint32(at + 40) * SECTOR,
      ...(active && { stripes: view.getUint32(at + 44) }),
    };
  });
  return {
    'ivgen-alg': ivgen,
    ...(ivgenHash !== undefined && { 'ivgen-hash-alg': ivgenHash }),
    'hash-alg': text(72, 32),
    'cipher-alg': `${cipher}-${keyBits}`,
    uuid: text(168, 40),
    format: 'luks',
    'cipher-mode': mode,
    slots,
    'payload-offset': view.getUint32(104) * SECTOR,
    'master-key-iters': view.getUint32(164),
  };
}
