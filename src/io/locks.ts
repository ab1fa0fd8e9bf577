// Permissions on an image -> byte locks in its file, the layout that QEMU uses on Linux.
// Pure: who takes the locks is the storage.

/** What a user of an image does with it, or lets others do meanwhile. */
export type Permission = 'consistent read' | 'write' | 'write unchanged' | 'resize';
/**
 * The order gives the byte: 100 + n used, 200 + n unshared.
 *
 * @internal
 */
export const PERMISSIONS: readonly Permission[] = [
  'consistent read',
  'write',
  'write unchanged',
  'resize',
];

const USED = 100;
const UNSHARED = 200;

/** @internal */
export interface ByteLocks {
  /** Bytes to hold shared locks on. */
  readonly hold: readonly number[];
  /** There is something that others may not do meanwhile. */
  readonly keepsOut: boolean;
  /** Bytes that nobody else may hold, and the words for the refusal if somebody does. */
  readonly probe: readonly { readonly byte: number; readonly conflict: string }[];
}

/** @internal */
export function byteLocks(use: readonly Permission[], share: readonly Permission[]): ByteLocks {
  const hold: number[] = [];
  const probe: { byte: number; conflict: string }[] = [];
  // The order in which QEMU probes: of two conflicts it tells the first.
  PERMISSIONS.forEach((permission, n) => {
    if (!use.includes(permission)) return;
    hold.push(USED + n);
    probe.push({ byte: UNSHARED + n, conflict: `Failed to get "${permission}" lock` });
  });
  PERMISSIONS.forEach((permission, n) => {
    if (share.includes(permission)) return;
    hold.push(UNSHARED + n);
    probe.push({ byte: USED + n, conflict: `Failed to get shared "${permission}" lock` });
  });
  return { hold, probe, keepsOut: share.length < PERMISSIONS.length };
}
