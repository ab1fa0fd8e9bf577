// Who else stands on what a commit changes: images that are not part of it and would show other data
// afterwards.

import type { Chain, ChainLayer } from '../chain/chain.ts';
import { hostFileOf } from '../chain/filename.ts';
import {
  asDirectory,
  directoriesOf,
  findSiblings,
  readNeighbours,
  type Sibling,
} from '../chain/siblings.ts';
import { ImageError, machineWords } from '../errors.ts';
import type { Host } from '../io/host.ts';

export interface Bystanders {
  readonly host: Host;
  readonly chain: Chain;
  /** Further directories to look in. */
  readonly search: readonly string[];
  /** Images that are known to stand on base, wherever they are. */
  readonly known: readonly string[];
  /** Layers whose view a change of base changes: base and those between. */
  readonly changing: readonly ChainLayer[];
  /** Layers that will be removed, or lose what they hold. */
  readonly deleted: readonly ChainLayer[];
  /** Layers and overlays whose view stays: what stands on them is safe. */
  readonly stable: readonly ChainLayer[];
  readonly signal?: AbortSignal | undefined;
  /** Whether base shows anything else afterwards; asked when it matters. */
  changesBase(): Promise<boolean>;
}

export interface Found {
  /** Images that would see other data. */
  readonly siblings: readonly Sibling[];
  /** Images that stand on what will be removed: they would not open any more. */
  readonly needing: readonly string[];
  /** Files and directories that could not be read: they may be siblings, too. */
  readonly unread: readonly string[];
  /** The machine failed to read one of those. */
  readonly failure: ImageError | undefined;
}

/** Sorted by name. */
export async function findBystanders(scene: Bystanders): Promise<Found> {
  const { host, search, signal } = scene;
  const names = scene.chain.layers.map(({ filename }) => filename);
  const directories = await directoriesOf(host, names, search);
  const required = new Set(search.map(asDirectory));
  const neighbours = await readNeighbours(host, directories, required, signal);
  const { unread, failure } = neighbours;
  const find = (changing: readonly ChainLayer[]) => {
    const ids = new Set(changing.map(({ id }) => id));
    const stable = scene.stable.map(({ id }) => id).filter((id) => !ids.has(id));
    return findSiblings(neighbours, ids, new Set(stable));
  };
  const found = await withKnown(await find([...scene.changing, ...scene.deleted]), scene);
  const needing = found.length === 0 ? [] : await find(scene.deleted);
  const named = needing.map(({ filename }) => filename);
  if (found.length === 0 || (await scene.changesBase())) {
    return { siblings: found, needing: named, unread, failure };
  }
  // An interrupted commit that is run again: base holds it all, only removing could hurt anybody.
  return { siblings: needing, needing: named, unread, failure };
}

async function withKnown(
  found: readonly Sibling[],
  { known, host }: Bystanders,
): Promise<readonly Sibling[]> {
  const more: Sibling[] = [];
  for (const filename of known) {
    const id = (await host.identify(hostFileOf(filename)))?.id ?? filename;
    if (!found.some((sibling) => sibling.id === id)) more.push({ filename, id, direct: true });
  }
  return [...found, ...more].sort((a, b) => (a.filename < b.filename ? -1 : 1));
}

/** Nobody knows whether it is one of the siblings. */
export function unreadError(failure: ImageError, base: string): ImageError {
  const { errno } = failure;
  return new ImageError('siblings', `${machineWords(failure)}; it may depend on '${base}', too`, {
    cause: failure,
    hint:
      'Nothing was changed; once the cause is gone, the same command may be run again. ' +
      'Use --force to commit all the same.',
    ...(errno !== undefined && { errno }),
  });
}

/** Not for `force` to overrule: what stands on a file that is gone, or empty, is lost. */
export function neededError(
  needing: readonly string[],
  doing: '--delete would remove' | '--reclaim would empty',
): ImageError {
  const names = needing.map((name) => `'${name}'`).join(', ');
  const [option] = doing.split(' ');
  return new ImageError('siblings', `Files that ${doing} are needed by ${names}`, {
    hint:
      option === '--delete'
        ? 'Leave --delete out, or name those images with --overlay, so that they are relinked.'
        : 'Leave --reclaim out, or commit or remove those images first.',
  });
}

export function siblingsError(siblings: readonly string[], base: string): ImageError {
  const names = siblings.map((name) => `'${name}'`).join(', ');
  return new ImageError(
    'siblings',
    `Other images depend on '${base}' or a layer between, and would see other data ` +
      `afterwards: ${names}`,
    {
      hint:
        'Remove those that nobody needs any more, use --rebase-siblings to have each of them keep ' +
        'what it shows, or use --force to commit all the same.',
    },
  );
}
