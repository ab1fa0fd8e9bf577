// Who else stands on a file: images in some directories whose backing chain reaches one of the
// given files. Reads headers only, of regular files only.

import type { Host } from '../io/host.ts';
import { backingNameIn } from '../qcow2/header.ts';
import { readHeaderCluster } from '../qcow2/header-cluster.ts';
import { fileBehind } from './file-behind.ts';
import { directoryOf } from './filename.ts';

export interface SiblingSearch {
  readonly host: Host;
  /** Directories to look in, each with its slash at the end. */
  readonly directories: readonly string[];
  /** Identities of the files that are about to change. */
  readonly changing: ReadonlySet<string>;
  /** Identities of files whose view stays: what stands on them is no sibling. */
  readonly stable: ReadonlySet<string>;
}

interface Node {
  readonly filename: string;
  readonly backing: string | null;
}

const READ_AT_ONCE = 8;
const MAX_CHAIN = 1000;

/** Names of the images that would see other data afterwards, sorted. */
export async function findSiblings(search: SiblingSearch): Promise<readonly string[]> {
  const { host, changing, stable } = search;
  const nodes = await readNodes(host, search.directories);
  const siblings: string[] = [];
  for (const [id, node] of nodes) {
    if (changing.has(id) || stable.has(id)) continue;
    if (await reaches(node, nodes, search)) siblings.push(node.filename);
  }
  return siblings.sort();
}

/** Who stands on which file: identity of a backing file -> names of its overlays, sorted. */
export async function findOverlays(
  host: Host,
  directories: readonly string[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const overlays = new Map<string, string[]>();
  for (const { filename, backing } of (await readNodes(host, directories)).values()) {
    const below =
      backing === null ? undefined : await host.identify(backing).catch(() => undefined);
    if (below === undefined) continue;
    overlays.set(below.id, [...(overlays.get(below.id) ?? []), filename].sort());
  }
  return overlays;
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
    directories.set(directoryOf(`${await host.realPath(named)}/`), named);
    if (!directories.has(real)) directories.set(real, real);
  }
  const more = search.map((name) => (name.endsWith('/') ? name : `${name}/`));
  return [...new Set([...directories.values(), ...more])];
}

/** Images of the directories by their identity. */
async function readNodes(host: Host, directories: readonly string[]): Promise<Map<string, Node>> {
  const nodes = new Map<string, Node>();
  const files = await listAll(host, directories);
  for (let i = 0; i < files.length; i += READ_AT_ONCE) {
    const batch = files.slice(i, i + READ_AT_ONCE);
    await Promise.all(batch.map((filename) => readNode(host, filename, nodes)));
  }
  return nodes;
}

async function listAll(host: Host, directories: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const directory of new Set(directories)) {
    const prefix = directory === './' ? '' : directory;
    for (const name of await host.listFiles(directory)) files.push(prefix + name);
  }
  return files;
}

/** What is no qcow2 image, or can't be read, depends on nothing that we could know. */
async function readNode(host: Host, filename: string, nodes: Map<string, Node>): Promise<void> {
  try {
    const identity = await host.identify(filename);
    if (identity?.kind !== 'file' || nodes.has(identity.id)) return;
    const storage = await host.openStorage(filename, { writable: false });
    try {
      // Only the name counts: features that we don't know change nothing about it.
      const name = backingNameIn(await readHeaderCluster(storage));
      const backing = name && (await backingOf(host, filename, name));
      nodes.set(identity.id, { filename, backing });
    } finally {
      await storage.close();
    }
  } catch {
    // Not an image of ours.
  }
}

/** As seen from the directory of the name; where that is a link, perhaps from the file's own. */
async function backingOf(host: Host, filename: string, name: string): Promise<string | null> {
  const seen = fileBehind(filename, name);
  if (seen !== null && (await host.identify(seen)) !== undefined) return seen;
  return fileBehind(await host.realPath(filename), name);
}

async function reaches(
  node: Node,
  nodes: Map<string, Node>,
  { host, changing, stable }: SiblingSearch,
): Promise<boolean> {
  let current = node;
  for (let depth = 0; depth < MAX_CHAIN && current.backing !== null; depth++) {
    const below = await host.identify(current.backing).catch(() => undefined);
    if (below === undefined || stable.has(below.id)) return false;
    if (changing.has(below.id)) return true;
    if (!nodes.has(below.id)) await readNode(host, current.backing, nodes);
    const next = nodes.get(below.id);
    if (next === undefined) return false;
    current = next;
  }
  return false;
}
