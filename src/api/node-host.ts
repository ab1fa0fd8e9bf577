// This machine.

import type { Codecs, Host } from '../io/host.ts';
import { nodeHost as thisMachine } from '../nbd/node-host.ts';

/** This machine as Node.js shows it: its files and devices, image locks, kernel copies and holes. */
export const nodeHost: Host = thisMachine;

/** zlib and zstd by Node.js; for a host of your own, or a {@link MemoryHost}. */
export const nodeCodecs: Codecs = thisMachine.codecs;
