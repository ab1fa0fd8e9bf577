// What we do with a file and what others may do with it meanwhile, by the part that the file has: the
// same as QEMU's drivers ask for. Pure.

import { PERMISSIONS, type Permission } from './locks.ts';

export interface Permissions {
  readonly use: readonly Permission[];
  readonly share: readonly Permission[];
}

/** The file of an image, a raw disk, or the external data file of an image. */
export type FilePart = 'image' | 'raw' | 'data';
/** `describe`: to look at the header and what it leads to, not at the disk. */
export type FileAccess = 'describe' | 'read' | 'write';

const USED = {
  describe: [],
  read: ['consistent read'],
  write: ['consistent read', 'write', 'resize'],
} as const satisfies Record<FileAccess, readonly Permission[]>;

/**
 * Two writers of tables would destroy them, so an image is written by one. Who else writes to a raw
 * disk is up to the guests; a data file must only keep its size.
 */
const SHARED = {
  image: ['consistent read', 'write unchanged'],
  raw: PERMISSIONS,
  data: ['consistent read', 'write', 'write unchanged'],
} as const satisfies Record<FilePart, readonly Permission[]>;

/** `forceShare`: others may do what they like. */
export function permissionsFor(
  part: FilePart,
  access: FileAccess,
  forceShare = false,
): Permissions {
  return { use: USED[access], share: forceShare ? PERMISSIONS : SHARED[part] };
}

/** For a file that is emptied to be made anew. */
export const TRUNCATE: Permissions = { use: ['write', 'resize'], share: SHARED.data };

/** For an image whose view makes no sense any more, or is about to be removed. */
export const INVALIDATE: Permissions = { use: USED.read, share: ['write unchanged'] };

/**
 * For the base of a commit. Stricter than QEMU for a raw one: what another process writes there
 * meanwhile would be lost, or what we do.
 */
export function fillPermissions(part: FilePart, grows: boolean): Permissions {
  const use: readonly Permission[] =
    part === 'image' || grows ? USED.write : ['consistent read', 'write'];
  return { use, share: SHARED.image };
}
