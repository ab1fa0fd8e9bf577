// Who may do what with a node at the same time: what each kind of user needs of a node, and what it
// lets the others do meanwhile; and the words where two of them don't go together. Pure.

import { PERMISSIONS, type Permission } from '../io/locks.ts';

export interface Access {
  readonly use: readonly Permission[];
  readonly share: readonly Permission[];
}

/** What a node is for the node above it. */
export type ChildRole = 'file' | 'backing' | 'image';

export const ALL: readonly Permission[] = PERMISSIONS;

const without = (from: readonly Permission[], these: readonly Permission[]) =>
  from.filter((each) => !these.includes(each));
const also = (to: readonly Permission[], these: readonly Permission[]) =>
  ALL.filter((each) => to.includes(each) || these.includes(each));

/** What its users together do with a node, and what all of them let others do. */
export function cumulated(users: readonly Access[]): Access {
  return {
    use: ALL.filter((each) => users.some(({ use }) => use.includes(each))),
    share: ALL.filter((each) => users.every(({ share }) => share.includes(each))),
  };
}

export interface Overlying {
  readonly driver: string;
  /** May be written to now. */
  readonly writable: boolean;
}

/** What a node needs of one below it, so that its own users can do what they do. */
export function accessBelow(node: Overlying, role: ChildRole, users: Access): Access {
  // It stands above what a job makes inconsistent, and asks nothing of it.
  if (node.driver === 'commit_top') return { use: [], share: ALL };
  if (role === 'backing') return backingAccess(users);
  return node.driver === 'qcow2' ? imageFileAccess(node, users) : users;
}

/** A backing file is only read; it may change where those above can bear that. */
function backingAccess({ use, share }: Access): Access {
  const changing: readonly Permission[] = share.includes('write') ? ['write', 'resize'] : [];
  return {
    use: use.filter((each) => each === 'consistent read'),
    share: also(['consistent read', 'write unchanged'], changing),
  };
}

/** The file of an image has its tables: they must be right, and nobody else may write them. */
function imageFileAccess({ writable }: Overlying, { use, share }: Access): Access {
  const own: readonly Permission[] = writable ? ['write', 'resize'] : [];
  const used = also(also(use, own), ['consistent read']);
  const grows: readonly Permission[] = used.includes('write unchanged') ? ['write'] : [];
  const written = also(used, grows);
  return {
    use: written.includes('write') ? also(written, ['resize']) : written,
    share: without(share, ['write', 'resize']),
  };
}

/** A user of a node, in the words of messages. */
export interface Named extends Access {
  /** `node 'mid'`, `commit job 'j'`, `an unnamed block device`. */
  readonly who: string;
  /** What the node is for it: `backing`, `root`, `intermediate node`. */
  readonly as: string;
}

/** What speaks against `users` (the latest first) sharing a node; undefined if nothing does. */
export function conflictOf(nodeName: string, users: readonly Named[]): string | undefined {
  for (const holder of users) {
    for (const other of users) {
      if (holder === other) continue;
      const both = without(other.use, holder.share);
      if (both.length === 0) continue;
      const as = (user: Named) => `(uses node '${nodeName}' as '${user.as}' child)`;
      return (
        `Permission conflict on node '${nodeName}': permissions '${both.join(', ')}' are both ` +
        `required by ${other.who} ${as(other)} and unshared by ${holder.who} ${as(holder)}.`
      );
    }
  }
  return undefined;
}
