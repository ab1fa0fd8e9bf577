// The single steps in which the graph changes: who uses a node, and which nodes there are. Made by
// who has the graph to himself (graph.ts).

import { WRITER } from '../chain/open-qcow2.ts';
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
  /** Its node gives way to another one that shows the same: it goes on with that. */
  readonly onMove?: (node: BlockNode) => Promise<void>;
  /** Resolves when none of its requests is under way; they go on when the function is called. */
  readonly hold?: () => Promise<() => void>;
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
    const { who, as = 'root', device, use, share = ALL, onMove, hold } = attachment;
    const named = device === undefined ? 'an unnamed block device' : `block device '${device}'`;
    const can = { ...(onMove && { onMove }), ...(hold && { hold }) };
    const more = { ...(device !== undefined && { device }), ...can };
    const user = { node, who: who ?? named, as, use, share, ...more };
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

  /** Users of one node, or of several, come to use another one. What has to hold is checked later. */
  move(users: readonly User[], to: BlockNode): void {
    for (const user of users) {
      user.node.users = user.node.users.filter((each) => each !== user);
      user.node = to;
    }
    to.users = [...users, ...to.users];
  }

  /** A filter comes to stand between a node and those that use it now, jobs excepted. */
  async putAbove(node: BlockNode, filter: BlockNode): Promise<void> {
    const users = node.users.filter(({ as, above }) => above !== undefined || as === 'root');
    this.enter(filter);
    this.move(users, filter);
    try {
      await this.connect(filter, 'backing', node);
    } catch (error) {
      this.move(users, node);
      this.#nodes.delete(filter.name);
      throw error;
    }
  }

  /** The filter goes; who still uses it uses what is below it again. */
  async takeAway(filter: BlockNode): Promise<void> {
    const [edge] = filter.below;
    if (edge === undefined) return;
    this.move(filter.users, edge.node);
    this.#nodes.delete(filter.name);
    filter.below = [];
    await this.detach(edge);
  }

  /**
   * A node that was opened for reading is written to for a while, and its file with it. Before that
   * ends, what was written is durable.
   */
  async setWritable(node: BlockNode, on: boolean): Promise<void> {
    const { layer } = node;
    if (!on) {
      await layer.flush();
      if (layer instanceof Qcow2Image) await layer.storeBitmaps();
    }
    const together = [node, ...filesOf(node)];
    for (const each of together) each.writableForJob = on;
    try {
      await refreshAccess(together);
      // An external data file is no node of its own.
      if (on && layer instanceof Qcow2Image) {
        await layer.storage.makeWritable(WRITER.use, WRITER.share);
      }
      // For a disk without tables its user's access has the file reopened, later.
      if (on && layer instanceof Qcow2Image && !layer.writable) {
        throw new DaemonError(`Node '${node.name}' can not be written to`);
      }
    } catch (error) {
      for (const each of together) each.writableForJob = !on;
      throw error;
    }
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

/** The files that were opened for it alone, and are as it is. */
function filesOf(node: BlockNode): readonly BlockNode[] {
  const file = node.child('file') ?? node.child('image');
  return file === undefined || file.owned ? [] : [file, ...filesOf(file)];
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
