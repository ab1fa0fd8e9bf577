// The single steps in which the graph changes: who uses a node, and which nodes there are. Made by
// who has the graph to himself (graph.ts).

import type { Permission } from '../io/locks.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { refreshAccess } from './access.ts';
import { DaemonError } from './daemon-error.ts';
import type { BlockNode, User } from './node.ts';
import { ALL, type ChildRole } from './permissions.ts';

/** Who comes to use a node from outside of the graph. */
export interface Attachment {
  /** In the words of messages: `commit job 'j'`. Default: by the device's name. */
  readonly who?: string;
  /** What the node is for it. Default `root`. */
  readonly as?: string;
  readonly device?: string;
  readonly use: readonly Permission[];
  /** Default: everything. */
  readonly share?: readonly Permission[];
}

export class GraphChanges {
  readonly #nodes: Map<string, BlockNode>;

  constructor(nodes: Map<string, BlockNode>) {
    this.#nodes = nodes;
  }

  /** The node is there for others. */
  enter(node: BlockNode): void {
    if (this.#nodes.has(node.name)) {
      throw new DaemonError(`Duplicate nodes with node-name='${node.name}'`);
    }
    this.#nodes.set(node.name, node);
  }

  async attach(node: BlockNode, attachment: Attachment): Promise<User> {
    const { who, as = 'root', device, use, share = ALL } = attachment;
    const named = device === undefined ? 'an unnamed block device' : `block device '${device}'`;
    const isDevice = device !== undefined && { device };
    const user = { node, who: who ?? named, as, use, share, ...isDevice };
    await this.#join(user);
    return user;
  }

  /** `above` comes to stand on `node`. */
  async connect(above: BlockNode, role: ChildRole, node: BlockNode): Promise<void> {
    const who = `node '${above.name}'`;
    const user = { node, above: { node: above, role }, who, as: role, use: [], share: ALL };
    above.below = [...above.below, user];
    try {
      await this.#join(user, above);
    } catch (error) {
      above.below = above.below.filter((each) => each !== user);
      throw error;
    }
  }

  async #join(user: User, from = user.node): Promise<void> {
    const { node } = user;
    const before = node.users;
    node.users = [user, ...before];
    try {
      await refreshAccess([from]);
    } catch (error) {
      node.users = before;
      throw error;
    }
  }

  /** The user is gone; with the last one goes a node that no command made. */
  async detach(user: User): Promise<void> {
    const { node, above } = user;
    node.users = node.users.filter((each) => each !== user);
    if (above !== undefined) above.node.below = above.node.below.filter((each) => each !== user);
    if (node.users.length === 0 && !node.owned) await this.close(node);
    else await refreshAccess([node]);
  }

  /** What was opened for a node above that did not come to be. */
  async closeUnused(node: BlockNode): Promise<void> {
    if (node.users.length === 0 && !node.owned) await this.close(node);
  }

  /** The node is gone, and with it what was there for it alone. The first error is thrown at the end. */
  async close(node: BlockNode): Promise<void> {
    const errors: unknown[] = [];
    const note = (error: unknown) => errors.push(error);
    if (this.#nodes.get(node.name) === node) this.#nodes.delete(node.name);
    if (node.isOpen) await closeParts(node).catch(note);
    for (const edge of node.below) await this.detach(edge).catch(note);
    if (errors.length > 0) throw errors[0];
  }
}

/** What it wrote is durable. What it stands on is closed by its own node. */
async function closeParts({ parts }: BlockNode): Promise<void> {
  const { layer, storage } = parts;
  if (layer instanceof Qcow2Image) return await layer.close();
  try {
    if (storage.writable) await storage.flush();
  } finally {
    await storage.close();
  }
}
