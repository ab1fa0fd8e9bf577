// The open nodes by name, who uses which, and what each file is locked for.

import type { OptionDict } from '../chain/option-dict.ts';
import type { Secrets } from '../chain/secrets.ts';
import type { Host } from '../io/host.ts';
import type { Permission } from '../io/locks.ts';
import { Mutex } from '../qcow2/mutex.ts';
import { DaemonError } from './daemon-error.ts';
import { type Attachment, GraphChanges } from './graph-changes.ts';
import type { BlockNode, User } from './node.ts';
import { type Described, openBlockNode } from './open-block-node.ts';

export interface GraphOptions {
  readonly host: Host;
  /** Passphrases, and what else options name; may grow later on. */
  readonly secrets: Secrets;
}

export class Graph {
  readonly host: Host;
  readonly secrets: Secrets;
  /** In the order of their opening. */
  readonly #nodes = new Map<string, BlockNode>();
  readonly #turns = new Mutex();
  readonly #changes = new GraphChanges(this.#nodes);
  #counter = 0;

  constructor({ host, secrets }: GraphOptions) {
    this.host = host;
    this.secrets = secrets;
  }

  /** The latest first. */
  get nodes(): readonly BlockNode[] {
    return [...this.#nodes.values()].reverse();
  }

  node(name: string): BlockNode | undefined {
    return this.#nodes.get(name);
  }

  /** The node under a device. */
  device(name: string): BlockNode | undefined {
    if (name === '') return undefined;
    return this.nodes.find(({ users }) => users.some(({ device }) => device === name));
  }

  /** By either name. Throws the words for one that is not there. */
  lookUp(device: string, nodeName: string): BlockNode {
    const found = this.device(device) ?? this.node(nodeName);
    if (found !== undefined) return found;
    throw new DaemonError(`Cannot find device='${device}' nor node-name='${nodeName}'`);
  }

  /** A name as QEMU makes them up, for a node that was not given one. */
  generateName(): string {
    this.#counter++;
    return `#block${this.#counter}${String((this.#counter * 37) % 100).padStart(2, '0')}`;
  }

  /** The same for one that somebody chose: it may be no name at all. */
  checkNodeName(name: string): void {
    if (!/^[a-z][a-z0-9._-]*$/i.test(name)) {
      throw new DaemonError(`Invalid node-name: '${name}'`);
    }
    this.checkNewName(name);
  }

  checkNewName(name: string): void {
    if (this.#nodes.has(name)) throw new DaemonError(`Duplicate nodes with node-name='${name}'`);
    if (this.device(name) !== undefined) {
      throw new DaemonError(`node-name=${name} is conflicting with a device id`);
    }
  }

  /** One change after the other: what `work` does to nodes and users, nobody else does meanwhile. */
  change<T>(work: (changes: GraphChanges) => Promise<T>): Promise<T> {
    return this.#turns.run(() => work(this.#changes));
  }

  /**
   * Has somebody use a node, once all that are concerned agree and the files are locked for it.
   * Throws, all as it was, where they don't.
   */
  attach(node: BlockNode, attachment: Attachment): Promise<User> {
    return this.change((changes) => changes.attach(node, attachment));
  }

  /** The user is gone; with the last one goes a node that no command made. */
  detach(user: User): Promise<void> {
    return this.change((changes) => changes.detach(user));
  }

  /** Opens a node by options as `blockdev-add` has them, and all that they describe below it. */
  add(options: OptionDict): Promise<BlockNode> {
    return this.change(async (changes) => {
      if (options.get('node-name') === undefined) {
        throw new DaemonError("'node-name' must be specified for the root node");
      }
      const node = await openBlockNode({ options }, this, changes);
      node.owned = true;
      return node;
    });
  }

  /**
   * Opens a whole chain, by its top's name, under a device that reads and (unless it is read-only)
   * writes. Its nodes are there for the device alone.
   */
  addDevice(device: string, described: Described): Promise<User> {
    return this.change(async (changes) => {
      if (!/^[a-z][a-z0-9._-]*$/i.test(device)) {
        throw new DaemonError("Parameter 'id' expects an identifier");
      }
      if (this.device(device) !== undefined) {
        throw new DaemonError(`Device with id '${device}' already exists`);
      }
      if (this.node(device) !== undefined) {
        throw new DaemonError(`Device name '${device}' conflicts with an existing node name`);
      }
      const node = await openBlockNode(described, this, changes);
      const use: readonly Permission[] = node.readOnly
        ? ['consistent read']
        : ['consistent read', 'write'];
      try {
        return await changes.attach(node, { device, use });
      } catch (error) {
        await changes.closeUnused(node).catch(() => undefined);
        throw error;
      }
    });
  }

  /** `blockdev-del`: closes a node that nobody uses. */
  remove(name: string): Promise<void> {
    return this.change(async (changes) => {
      const node = this.node(name);
      if (node === undefined) {
        throw new DaemonError(`Failed to find node with node-name='${name}'`);
      }
      checkUnused(node);
      node.owned = false;
      await changes.close(node);
    });
  }

  /** Closes all nodes, those above first. Whoever used them has stopped. */
  close(): Promise<void> {
    return this.change(async (changes) => {
      const errors: unknown[] = [];
      for (const node of this.nodes) {
        node.owned = false;
        node.users = node.users.filter(({ above }) => above !== undefined);
      }
      for (const node of this.nodes) {
        if (node.users.length > 0 || this.node(node.name) !== node) continue;
        await changes.close(node).catch((error: unknown) => errors.push(error));
      }
      if (errors.length > 0) throw errors[0];
    });
  }
}

/** What holds a node is told as QEMU does. */
function checkUnused(node: BlockNode): void {
  const { name, users } = node;
  if (users.some(({ above, as }) => above === undefined && as === 'root')) {
    throw new DaemonError(`Node ${name} is in use`);
  }
  const [, job] = users.map(({ who }) => /^(\w+) job '/.exec(who)).find(Boolean) ?? [];
  if (job !== undefined) {
    throw new DaemonError(`Node '${name}' is busy: block device is in use by block job: ${job}`);
  }
  const overlay = users.find(({ above }) => above?.role === 'backing')?.above?.node;
  if (overlay !== undefined) {
    const why = `node is used as backing hd of '${overlay.name}'`;
    throw new DaemonError(`Node '${name}' is busy: ${why}`);
  }
  if (!node.owned) throw new DaemonError(`Node ${name} is not owned by the monitor`);
  if (users.length > 0) throw new DaemonError(`Block device ${name} is in use`);
}
