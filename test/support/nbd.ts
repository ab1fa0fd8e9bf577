// NBD servers in the test's own process, over images of the test; and what tests need to talk to them.

import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type OpenChainOptions, openChain } from '../../src/chain/open.ts';
import { Disk, type DiskOptions } from '../../src/daemon/disk.ts';
import { NbdServer, type NbdServerOptions } from '../../src/daemon/nbd-server.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import type { NbdExport, NbdExports } from '../../src/nbd/export.ts';
import { tempDir } from './temp.ts';

export function exportsOf(...all: readonly NbdExport[]): NbdExports {
  return { find: (wanted) => all.find(({ name }) => name === wanted), list: () => all };
}

export interface Serving {
  readonly server: NbdServer;
  /** Of its first export. */
  readonly uri: string;
  readonly socket: string;
}

/** A server of these exports, on a socket in a directory of its own, until the test ends. */
export async function serveExports(
  all: readonly NbdExport[],
  options: Partial<NbdServerOptions> = {},
): Promise<Serving> {
  const socket = join(tempDir(), 'nbd.sock');
  const server = await NbdServer.start({
    address: { type: 'unix', path: socket },
    exports: exportsOf(...all),
    // Machines may be slow.
    handshakeTimeout: 120_000,
    ...options,
  });
  onTestFinished(() => server.stop());
  return { server, socket, uri: uriOf(socket, all[0]?.name) };
}

export function uriOf(socket: string, name = ''): string {
  return `nbd+unix:///${name}?socket=${socket}`;
}

export interface ServedFile extends Serving {
  readonly disk: Disk;
}

/** A server of an image, writable; flushed and closed when the test ends. */
export async function serveFile(
  filename: string,
  {
    chain: chainOptions,
    disk: diskOptions,
    served,
    server: serverOptions,
  }: {
    readonly chain?: Partial<OpenChainOptions>;
    readonly disk?: DiskOptions;
    readonly served?: Partial<NbdExport>;
    readonly server?: Partial<NbdServerOptions>;
  } = {},
): Promise<ServedFile> {
  const chain = await openChain(filename, { host: nodeHost, writable: true, ...chainOptions });
  onTestFinished(() => chain.close());
  const disk = new Disk(chain.top, diskOptions);
  const all = [{ name: '', disk, writable: true, ...served }];
  return { ...(await serveExports(all, serverOptions)), disk };
}
