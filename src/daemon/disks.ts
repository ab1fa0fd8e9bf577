// One disk for each node that is in use, whoever uses it: requests of all of them take turns together.

import { DaemonError } from './daemon-error.ts';
import { Disk } from './disk.ts';
import type { BlockNode } from './node.ts';

interface Taken {
  readonly disk: Disk;
  node: BlockNode;
  users: number;
}

export class Disks {
  readonly #taken = new Map<BlockNode, Taken>();

  /** The disk of a node that somebody uses; undefined for one that nobody does. */
  of(node: BlockNode): Disk | undefined {
    return this.#taken.get(node)?.disk;
  }

  /** The caller is done with it when it calls `release`. */
  take(node: BlockNode): { readonly disk: Disk; readonly release: () => void } {
    const taken = this.#taken.get(node) ?? {
      disk: new Disk(node.layer, { unmap: node.settings.discard }),
      node,
      users: 0,
    };
    taken.users++;
    this.#taken.set(node, taken);
    const release = (): void => {
      taken.users--;
      if (taken.users === 0) this.#taken.delete(taken.node);
    };
    return { disk: taken.disk, release };
  }

  /** Its users go on with another node, which shows the same. Throws where that has a disk already. */
  async move(node: BlockNode, to: BlockNode): Promise<void> {
    const taken = this.#taken.get(node);
    if (taken === undefined) return;
    if (this.#taken.has(to)) throw new DaemonError(`Node '${to.name}' is in use`);
    await taken.disk.replace(to.layer);
    this.#taken.delete(node);
    this.#taken.set(to, taken);
    taken.node = to;
  }
}
