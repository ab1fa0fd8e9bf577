// Who else stands on a file: images in some directories whose backing chain reaches one of the
// given files. Reads headers only, of regular files only.

import { ImageError, isMachineFault } from '../errors.ts';
import type { FileIdentity, Host } from '../io/host.ts';
import { readBackingName } from '../qcow2/header-cluster.ts';
import { fileBehind } from './file-behind.ts';
import { directoryOf } from './filename.ts';

/** Images of some directories, by their identity. */
export interface Neighbours {
  readonly host: Host;
  readonly images: Map<string, Neighbour>;
  /** Files and directories that could not be read: nobody knows what they stand on. Sorted. */
  readonly unread: readonly string[];
  /** The machine failed to read one: another time it may be found to stand on anything. */
  readonly failure: ImageError | undefined;
}

interface Neighbour {
  readonly filename: string;
  /** What it stands on, where that is a file. */
  readonly backing: { readonly filename: string; readonly id: string } | null;
}

/** An image that would see other data. */
export interface Sibling {
  readonly filename: string;
  readonly id: string;
  /** It stands on a file that changes itself; else on another sibling. */
  readonly direct: boolean;
}

const READ_AT_ONCE = 8;
const MAX_CHAIN = 1000;

/**
 * Looks into directories, each named with its slash at the end. Those of `required` have to be
 * readable; what else can't be read is noted.
 */
export async function readNeighbours(
  host: Host,
  directories: readonly string[],
  required: ReadonlySet<string> = new Set(directories),
  signal?: AbortSignal,
): Promise<Neighbours> {
  const reader = new Reader(host);
  const files: string[] = [];
  for (const directory of new Set(directories)) {
    files.push(...(await reader.list(directory, required.has(directory))));
  }
  for (let i = 0; i < files.length; i += READ_AT_ONCE) {
    signal?.throwIfAborted();
    await Promise.all(files.slice(i, i + READ_AT_ONCE).map((filename) => reader.read(filename)));
  }
  const { images, unread, failure } = reader;
  return { host, images, unread: unread.sort(), failure };
}

/**
 * Those that stand on one of the files `changing`, by name. What stands on one of `stable`, whose view
 * stays, is none; both are identities.
 */
export async function findSiblings(
  { host, images }: Pick<Neighbours, 'host' | 'images'>,
  changing: ReadonlySet<string>,
  stable: ReadonlySet<string>,
): Promise<readonly Sibling[]> {
  const reader = new Reader(host, images);
  const siblings: Sibling[] = [];
  // Grows meanwhile, by what chains lead to elsewhere.
  for (const [id, { filename, backing }] of images) {
    if (changing.has(id) || stable.has(id) || backing === null) continue;
    const direct = changing.has(backing.id);
    if (direct || (await reaches(backing, reader, changing, stable))) {
      siblings.push({ filename, id, direct });
    }
  }
  return siblings.sort((a, b) => (a.filename < b.filename ? -1 : 1));
}

export interface Overlays {
  /** Identity of a backing file -> names of its overlays, sorted. */
  readonly overlays: ReadonlyMap<string, readonly string[]>;
  /** See `Neighbours`. */
  readonly unread: readonly string[];
}

/** Who stands on which file. Directories of `required` have to be readable. */
export async function findOverlays(
  host: Host,
  directories: readonly string[],
  required: ReadonlySet<string>,
): Promise<Overlays> {
  const overlays = new Map<string, string[]>();
  const { images, unread } = await readNeighbours(host, directories, required);
  for (const { filename, backing } of images.values()) {
    if (backing === null) continue;
    overlays.set(backing.id, [...(overlays.get(backing.id) ?? []), filename].sort());
  }
  return { overlays, unread };
}

/** Directories to look in: of the names, of the files that these are links to, and further ones. */
export async function directoriesOf(
  host: Host,
  filenames: readonly string[],
  search: readonly string[],
): Promise<readonly string[]> {
  const directories = new Map<string, string>();
  for (const filename of filenames) {
    // Not every layer is a file.
    if ((await host.identify(filename)) === undefined) continue;
    const real = directoryOf(await host.realPath(filename));
    const named = directoryOf(filename) || './';
    // As the user named it, where that is the same.
    directories.set(asDirectory(await host.realPath(named)), named);
    if (!directories.has(real)) directories.set(real, real);
  }
  return [...new Set([...directories.values(), ...search.map(asDirectory)])];
}

export function asDirectory(name: string): string {
  return name.endsWith('/') ? name : `${name}/`;
}

/** Follows a chain down, into directories that nobody looks in if need be. */
async function reaches(
  from: { readonly filename: string; readonly id: string },
  reader: Reader,
  changing: ReadonlySet<string>,
  stable: ReadonlySet<string>,
): Promise<boolean> {
  let current: typeof from | null = from;
  for (let depth = 0; depth < MAX_CHAIN && current !== null; depth++) {
    if (stable.has(current.id)) return false;
    if (changing.has(current.id)) return true;
    await reader.read(current.filename);
    current = reader.images.get(current.id)?.backing ?? null;
  }
  return false;
}

/** Says of a file that it does not depend on anything, as far as we can know. */
const IS_NO_IMAGE = new Set<string | undefined>(['format', 'not-found']);

class Reader {
  readonly images: Map<string, Neighbour>;
  readonly unread: string[] = [];
  failure: ImageError | undefined;
  readonly #host: Host;
  /** Many may stand on one file. */
  readonly #identities = new Map<string, Promise<FileIdentity | undefined>>();

  constructor(host: Host, images = new Map<string, Neighbour>()) {
    this.#host = host;
    this.images = images;
  }

  async list(directory: string, required: boolean): Promise<readonly string[]> {
    const prefix = directory === './' ? '' : directory;
    try {
      return (await this.#host.listFiles(directory)).map((name) => prefix + name);
    } catch (error) {
      if (required || !(error instanceof ImageError)) throw error;
      this.unread.push(directory);
      return [];
    }
  }

  /** Regular files only: opening others may hang, or have effects. */
  async read(filename: string): Promise<void> {
    const identity = await this.#identify(filename);
    if (identity?.kind !== 'file' || this.images.has(identity.id)) return;
    try {
      const storage = await this.#host.openStorage(filename, { writable: false });
      try {
        // Only the name counts: features that we don't know change nothing about it.
        const name = await readBackingName(storage);
        const backing = name === null ? null : await this.#backingOf(filename, name);
        this.images.set(identity.id, { filename, backing });
      } finally {
        await storage.close();
      }
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      if (!IS_NO_IMAGE.has(error.code)) this.unread.push(filename);
      if (isMachineFault(error)) this.failure ??= error;
    }
  }

  #identify(filename: string): Promise<FileIdentity | undefined> {
    let identity = this.#identities.get(filename);
    if (identity === undefined) {
      identity = this.#host.identify(filename).catch(() => undefined);
      this.#identities.set(filename, identity);
    }
    return identity;
  }

  /** As seen from the directory of the name; where that is a link, perhaps from the file's own. */
  async #backingOf(filename: string, name: string): Promise<Neighbour['backing']> {
    const seen = fileBehind(filename, name);
    const identity = seen === null ? undefined : await this.#identify(seen);
    if (seen !== null && identity !== undefined) return { filename: seen, id: identity.id };
    const other = fileBehind(await this.#host.realPath(filename), name);
    const found = other === null ? undefined : await this.#identify(other);
    return other === null || found === undefined ? null : { filename: other, id: found.id };
  }
}
