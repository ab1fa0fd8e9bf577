// Works out what each node below one is used for now, and has the files locked for it: all agree, or
// all stays as it was.

import { DaemonError } from './daemon-error.ts';
import type { BlockNode, User } from './node.ts';
import { type Access, ALL, accessBelow, conflictOf, cumulated } from './permissions.ts';

/** Throws, all as it was, where users don't go together or a file can't be locked. */
export async function refreshAccess(start: readonly BlockNode[]): Promise<void> {
  const planned = new Map<User, Access>();
  const wanted = new Map<BlockNode, Access>();
  for (const node of fromAbove(start)) {
    const users = node.users.map((user) => ({ ...user, ...planned.get(user) }));
    const conflict = conflictOf(node.name, users);
    if (conflict !== undefined) throw new DaemonError(conflict);
    const together = cumulated(users);
    if (node.readOnly && together.use.includes('write')) {
      throw new DaemonError('Block node is read-only');
    }
    wanted.set(node, together);
    const overlying = { driver: node.driver, writable: !node.readOnly };
    for (const edge of node.below) {
      if (edge.above === undefined) continue;
      planned.set(edge, accessBelow(overlying, edge.above.role, together));
    }
  }
  await lockFiles(wanted);
  for (const [user, { use, share }] of planned) Object.assign(user, { use, share });
}

/** Each node after all that stand on it. */
function fromAbove(start: readonly BlockNode[]): readonly BlockNode[] {
  const done = new Set<BlockNode>();
  const order: BlockNode[] = [];
  const visit = (node: BlockNode): void => {
    if (done.has(node)) return;
    done.add(node);
    for (const edge of node.below) visit(edge.node);
    order.unshift(node);
  };
  for (const node of start) visit(node);
  return order;
}

async function lockFiles(wanted: ReadonlyMap<BlockNode, Access>): Promise<void> {
  const before: [BlockNode, Access][] = [];
  try {
    for (const [node, access] of wanted) {
      if (!isFile(node)) continue;
      const held = node.locked;
      await lockFile(node, access);
      before.push([node, held]);
    }
  } catch (error) {
    // Less than was held just now: that nobody can refuse.
    for (const [node, access] of before) await lockFile(node, access);
    throw error;
  }
}

/** At the bottom: what has bytes of its own. */
function isFile({ isOpen, below }: BlockNode): boolean {
  return isOpen && below.length === 0;
}

async function lockFile(node: BlockNode, { use, share }: Access): Promise<void> {
  const { storage } = node.parts;
  const shared = node.settings.forceShare ? ALL : share;
  const writes = use.includes('write') || use.includes('resize');
  if (writes && !storage.writable) await storage.makeWritable(use, shared);
  else await storage.lock(use, shared);
  node.locked = { use, share };
}
