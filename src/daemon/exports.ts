// Which nodes are served over NBD, under which names; one server for all of them.

import type { Permission } from '../io/locks.ts';
import type { NbdDisk, NbdExport, NbdExports } from '../nbd/export.ts';
import type { StartTls } from '../nbd/negotiation.ts';
import type { TlsCredentials } from '../nbd/tls.ts';
import type { OnMistake } from '../nbd/transmission.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { DaemonError } from './daemon-error.ts';
import { Disk } from './disk.ts';
import type { Events } from './events.ts';
import type { Graph } from './graph.ts';
import type { SocketAddress } from './listening.ts';
import { NbdServer } from './nbd-server.ts';
import type { BlockNode, User } from './node.ts';

export interface ServerSettings {
  readonly address: SocketAddress;
  /** Name of the credentials that clients have to trust. */
  readonly tlsCreds?: string;
  readonly maxConnections?: number;
}

export interface ExportSettings {
  readonly id: string;
  /** Default: the node's. */
  readonly name?: string;
  readonly description?: string;
  readonly writable?: boolean;
  /** Each write is durable when it is acknowledged. */
  readonly writethrough?: boolean;
  readonly bitmaps?: readonly string[];
  readonly allocationDepth?: boolean;
}

interface Entry {
  readonly id: string;
  readonly user: User;
  readonly served: NbdExport;
  shuttingDown: boolean;
}

/** How an export goes that has clients: not at all, or with them. */
export type RemoveMode = 'safe' | 'hard';

const MAX_NAME = 4096;

export interface ExportsContext {
  readonly graph: Graph;
  readonly events: Events;
  readonly credentialsOf: (id: string) => TlsCredentials;
  /** Clients are served from then on. */
  readonly ready: Promise<void>;
  /** Hears of mistakes of ours, which cost a client an answer or its connection. */
  readonly onMistake: OnMistake;
}

export class Exports {
  readonly #context: ExportsContext;
  readonly #graph: Graph;
  /** In the order in which they came. */
  readonly #entries: Entry[] = [];
  #server: NbdServer | undefined;

  constructor(context: ExportsContext) {
    this.#context = context;
    this.#graph = context.graph;
  }

  async startServer({ address, tlsCreds, maxConnections }: ServerSettings): Promise<void> {
    if (this.#server !== undefined) throw new DaemonError('NBD server already running');
    const exports: NbdExports = {
      find: (name) => this.#entries.find(({ served }) => served.name === name)?.served,
      list: () => this.#entries.map(({ served }) => served),
    };
    const { ready, onMistake } = this.#context;
    const startTls = tlsCreds === undefined ? undefined : await this.#tls(tlsCreds);
    this.#server = await NbdServer.start({
      address,
      exports,
      ready,
      onMistake,
      ...(startTls !== undefined && { startTls }),
      ...(maxConnections !== undefined && { maxConnections }),
    });
  }

  async #tls(id: string): Promise<StartTls> {
    const credentials = this.#context.credentialsOf(id);
    if (credentials.endpoint !== 'server') {
      throw new DaemonError('Expected TLS credentials for a server endpoint');
    }
    // Seldom needed, and a lot to load.
    const { serverTls } = await import('../nbd/tls.ts');
    return serverTls(credentials);
  }

  /** With all exports. */
  stopServer(): Promise<void> {
    return this.#stopServer([...this.#entries], () => undefined);
  }

  /** `beforeLast`: called when all but the last are gone. */
  async #stopServer(entries: readonly Entry[], beforeLast: () => void): Promise<void> {
    const server = this.#server;
    if (server === undefined) throw new DaemonError('NBD server not running');
    this.#server = undefined;
    await server.stop();
    for (const entry of entries) {
      if (this.#entries.length === 1) beforeLast();
      await this.#remove(entry);
    }
  }

  /** By the name of a node. */
  add(settings: ExportSettings & { readonly nodeName: string }): Promise<void> {
    return this.#add(settings, () => this.#graph.lookUp('', settings.nodeName));
  }

  /** By the name of a device or of a node. */
  async addFor(name: string, settings: ExportSettings): Promise<void> {
    const node = this.#graph.lookUp(name, name);
    await this.#add({ ...settings, id: settings.id }, () => node);
  }

  async #add(settings: ExportSettings, find: () => BlockNode): Promise<void> {
    const { id, writable = false } = settings;
    if (!/^[a-z][a-z0-9._-]*$/i.test(id)) throw new DaemonError('Invalid block export id');
    if (this.#entries.some((entry) => entry.id === id)) {
      throw new DaemonError(`Block export id '${id}' is already in use`);
    }
    const node = find();
    if (writable && node.readOnly) {
      throw new DaemonError('Cannot export read-only node as writable');
    }
    const name = settings.name ?? node.name;
    const use: readonly Permission[] = writable
      ? ['consistent read', 'write']
      : ['consistent read'];
    // A disk that is served keeps its size.
    const share: readonly Permission[] = ['consistent read', 'write', 'write unchanged'];
    const disk = new Disk(node.layer, { unmap: node.settings.discard });
    const user = await this.#graph.attach(node, {
      ...{ use, share },
      onMove: ({ layer }) => disk.replace(layer),
      hold: () => disk.hold(),
    });
    try {
      this.#checkName(name, settings, node);
    } catch (error) {
      await this.#graph.detach(user);
      throw error;
    }
    const served = servedBy(disk, name, settings);
    this.#entries.push({ id, user, served, shuttingDown: false });
  }

  #checkName(
    name: string,
    { description, bitmaps, writable }: ExportSettings,
    node: BlockNode,
  ): void {
    if (Buffer.byteLength(name) > MAX_NAME) throw new DaemonError(`export name '${name}' too long`);
    if (description !== undefined && Buffer.byteLength(description) > MAX_NAME) {
      throw new DaemonError(`description '${description}' too long`);
    }
    if (this.#server === undefined) throw new DaemonError('NBD server not running');
    if (this.#entries.some(({ served }) => served.name === name)) {
      throw new DaemonError(`NBD server already has export named '${name}'`);
    }
    for (const bitmap of bitmaps ?? []) {
      checkBitmap(node, bitmap, writable === true);
    }
  }

  async remove(id: string, mode: RemoveMode): Promise<void> {
    const entry = this.#entries.find((each) => each.id === id);
    if (entry === undefined) throw new DaemonError(`Export '${id}' is not found`);
    if (mode === 'safe' && (this.#server?.clientsOf(entry.served) ?? 0) > 0) {
      throw new DaemonError(`export '${id}' still in use`);
    }
    await this.#remove(entry);
  }

  async #remove(entry: Entry): Promise<void> {
    entry.shuttingDown = true;
    await this.#server?.disconnect(entry.served);
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    await this.#graph.detach(entry.user);
    this.#context.events.emit('BLOCK_EXPORT_DELETED', { id: entry.id });
  }

  /** The latest first. */
  query(): readonly Readonly<Record<string, unknown>>[] {
    return [...this.#entries].reverse().map(({ id, user, shuttingDown }) => ({
      id,
      type: 'nbd',
      'node-name': user.node.name,
      'shutting-down': shuttingDown,
    }));
  }

  /** What clients have asked for is done, and all of them are gone. */
  async close(beforeLast: () => void): Promise<void> {
    if (this.#server === undefined) return;
    await this.#stopServer([...this.#entries].reverse(), beforeLast);
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }
}

function servedBy(
  disk: NbdDisk,
  name: string,
  { description, writable = false, writethrough, bitmaps, allocationDepth }: ExportSettings,
): NbdExport {
  return {
    name,
    disk: writethrough ? writingThrough(disk) : disk,
    writable,
    ...(description !== undefined && { description }),
    ...(bitmaps !== undefined && { bitmaps }),
    ...(allocationDepth !== undefined && { allocationDepth }),
  };
}

/** Each change is durable when it is acknowledged. */
function writingThrough(disk: NbdDisk): NbdDisk {
  return {
    get size() {
      return disk.size;
    },
    get writable() {
      return disk.writable;
    },
    read: (...given) => disk.read(...given),
    write: (...given) => disk.write(...given).then(() => disk.flush()),
    zero: (...given) => disk.zero(...given).then(() => disk.flush()),
    discard: (...given) => disk.discard(...given).then(() => disk.flush()),
    flush: () => disk.flush(),
    status: (...given) => disk.status(...given),
    depths: (...given) => disk.depths(...given),
    dirty: (...given) => disk.dirty(...given),
  };
}

/** A bitmap of the node, or of one below it. */
function checkBitmap(node: BlockNode, name: string, writable: boolean): void {
  for (let at: BlockNode | undefined = node; at !== undefined; at = at.backing) {
    if (!(at.layer instanceof Qcow2Image)) continue;
    const found = at.layer.bitmaps.list.find((bitmap) => bitmap.name === name);
    if (found === undefined) continue;
    if (found.inconsistent) {
      throw new DaemonError(`Bitmap '${name}' is inconsistent and cannot be used`);
    }
    if (!writable && node.layer.writable && found.enabled) {
      throw new DaemonError(`Enabled bitmap '${name}' incompatible with readonly export`);
    }
    return;
  }
  throw new DaemonError(`Bitmap '${name}' is not found`);
}
