// What a client may do with an export, as bits.

import type { NbdExport } from './export.ts';
import {
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from './spec.ts';

export function canWrite({ writable, disk }: NbdExport): boolean {
  return writable && disk.writable;
}

/** All connections go to one disk: what one of them flushed, all see and keep. */
export function exportFlags(served: NbdExport, structured: boolean): number {
  const always =
    NBD_FLAG_HAS_FLAGS |
    NBD_FLAG_SEND_FLUSH |
    NBD_FLAG_SEND_FUA |
    NBD_FLAG_SEND_CACHE |
    NBD_FLAG_CAN_MULTI_CONN;
  const changing = canWrite(served)
    ? NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO
    : NBD_FLAG_READ_ONLY;
  return always | changing | (structured ? NBD_FLAG_SEND_DF : 0);
}
