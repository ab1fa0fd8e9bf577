// Which requests are refused before anything is done for them, and with which error.

import { canWrite } from './export-flags.ts';
import type { Negotiated } from './negotiation.ts';
import type { Request } from './requests.ts';
import {
  MAX_PAYLOAD,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  type NbdErrorName,
} from './spec.ts';

export class Refusal extends Error {
  readonly errno: NbdErrorName;

  constructor(errno: NbdErrorName, message: string) {
    super(message);
    this.errno = errno;
  }
}

interface CommandRules {
  readonly name: string;
  /** Besides FUA, which any may have. */
  readonly flags: number;
  readonly changes: boolean;
  /** Carries as many bytes as its length says, in either direction. */
  readonly carries: boolean;
}

const RULES: Readonly<Record<number, CommandRules>> = {
  [NBD_CMD_READ]: { name: 'read', flags: NBD_CMD_FLAG_DF, changes: false, carries: true },
  [NBD_CMD_WRITE]: { name: 'write', flags: 0, changes: true, carries: true },
  [NBD_CMD_FLUSH]: { name: 'flush', flags: 0, changes: false, carries: false },
  [NBD_CMD_TRIM]: { name: 'trim', flags: 0, changes: true, carries: false },
  [NBD_CMD_CACHE]: { name: 'cache', flags: 0, changes: false, carries: false },
  [NBD_CMD_WRITE_ZEROES]: {
    name: 'write zeroes',
    flags: NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
    changes: true,
    carries: false,
  },
  [NBD_CMD_BLOCK_STATUS]: {
    name: 'block status',
    flags: NBD_CMD_FLAG_REQ_ONE,
    changes: false,
    carries: false,
  },
};

/** Throws `Refusal`. */
export function checkRequest(
  { type, flags, offset, length }: Request,
  { served, structured, contexts }: Negotiated,
): void {
  const rules = RULES[type];
  if (rules === undefined) {
    throw new Refusal('EINVAL', `invalid request type (${type}) received`);
  }
  const { name, changes, carries } = rules;
  const known = rules.flags & (structured ? ~0 : ~NBD_CMD_FLAG_DF);
  const unknown = flags & ~(known | NBD_CMD_FLAG_FUA);
  if (unknown !== 0) {
    throw new Refusal(
      'EINVAL',
      `unsupported flags for command ${name} (got 0x${flags.toString(16)})`,
    );
  }
  if (changes && !canWrite(served)) throw new Refusal('EPERM', 'Export is read-only');
  if (carries && length > MAX_PAYLOAD) {
    throw new Refusal('EINVAL', `len (${length}) is larger than max len (${MAX_PAYLOAD})`);
  }
  // It is about the whole disk, whatever stands there.
  if (type === NBD_CMD_FLUSH) return;
  const { size } = served.disk;
  if (offset > size || length > size - offset) {
    const isSpace = type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES;
    const where = `From: ${offset}, Len: ${length}, Size: ${size}`;
    throw new Refusal(isSpace ? 'ENOSPC' : 'EINVAL', `operation past EOF; ${where}`);
  }
  if (type !== NBD_CMD_BLOCK_STATUS) return;
  if (contexts.length === 0) throw new Refusal('EINVAL', 'CMD_BLOCK_STATUS not negotiated');
  if (length === 0) throw new Refusal('EINVAL', 'need non-zero length');
}
