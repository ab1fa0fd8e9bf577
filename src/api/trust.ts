// How far images are trusted, as users of the library say it.

import { trustingHost as engineHost } from '../chain/trust.ts';
import type { Host } from '../io/host.ts';
import { nodeHost as thisMachine } from '../nbd/node-host.ts';
import { nodeHost } from './node-host.ts';

/** What images may make us open: see {@link trustingHost}. */
export interface Trust {
  /**
   * Directories: no file outside of them, and of those below them, is opened, created or removed.
   * Real paths count, so that links lead nowhere else. Default: any file may be.
   */
  readonly directories?: readonly string[];
  /**
   * Follows names with protocols, and descriptions (`json:{...}`), that headers store. Default
   * false: names of regular files and block devices alone.
   */
  readonly protocols?: boolean;
}

/**
 * A host over `host` for images that come from elsewhere: their headers name backing files and data
 * files, which are opened only as far as `trust` goes. Everything else is refused with `invalid`.
 * On Linux, a file that is swapped for a link while it is being opened is noticed before anything of it
 * is read or changed.
 */
export function trustingHost(host: Host, trust: Trust = {}): Host {
  return engineHost(host === nodeHost ? thisMachine : host, trust);
}
