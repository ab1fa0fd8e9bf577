// This machine.

import { trustingHost } from '../chain/trust.ts';
import type { Codecs, Host } from '../io/host.ts';
import { nodeHost as thisMachine } from '../nbd/node-host.ts';

/**
 * This machine as Node.js shows it: its files and devices, image locks, kernel copies and holes. Names in
 * headers of images are followed where they are plain names of files and block devices;
 * {@link trustingHost} has this host follow others, too, or stay in directories.
 */
export const nodeHost: Host = trustingHost(thisMachine, {});

/** zlib and zstd by Node.js; for a host of your own, or a {@link MemoryHost}. */
export const nodeCodecs: Codecs = thisMachine.codecs;
