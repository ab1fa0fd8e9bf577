// How far the images that a command opens are trusted. A drop-in follows what qemu-img follows.

import { type Trust, trustingHost } from '../chain/trust.ts';
import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { noCredentials, withNbd } from '../nbd/node-host.ts';
import type { Command } from './command.ts';
import { collect } from './options.ts';
import type { ProgramContext } from './program.ts';
import { readObjects } from './secrets.ts';

export interface Trusting {
  readonly trust?: readonly string[];
  readonly allowProtocols?: boolean;
}

export interface TrustFlags extends Trusting {
  /** What NBD servers are reached with. */
  readonly object?: readonly string[];
}

export function withTrust(command: Command): Command {
  return command
    .option('--trust <dir>', 'open no image outside of this directory (repeatable)', collect)
    .option('--allow-protocols', 'follow json: and protocol names that images store');
}

export function trusted(machine: Host, flags: TrustFlags, { asQemu }: ProgramContext): Host {
  const host = withObjects(machine, flags.object);
  if (asQemu) return asQemuReaches(host);
  const { trust: directories, allowProtocols: protocols = false } = flags;
  const trust: Trust = { protocols, ...(directories !== undefined && { directories }) };
  return trustingHost(host, trust);
}

/** QEMU has no names for servers with TLS. */
function asQemuReaches(host: Host): Host {
  return {
    ...host,
    async openNbd(target, options) {
      const { openNbd } = host;
      if (target.tls !== undefined || openNbd === undefined) {
        throw new ImageError('unsupported', "Unknown protocol 'nbds'");
      }
      return await openNbd(target, options);
    },
  };
}

/** A host that has the keys of `--object`. */
export function withObjects(host: Host, texts: readonly string[] | undefined): Host {
  if (texts === undefined) return host;
  return withNbd(host, async (id) => {
    const { credentials, secrets } = await readObjects(texts);
    const found = credentials.get(id);
    if (found !== undefined) return found;
    if (!secrets.has(id)) throw noCredentials(id);
    throw new ImageError('invalid', `Object with id '${id}' is not TLS credentials`);
  });
}
