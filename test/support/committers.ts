// Who carries a commit out: the property of commit is the same for all of them. QEMU's own commit
// is here to try the model and the generator on, before they judge ours.

import { join } from 'node:path';
import { commit as commitInEngine } from '../../src/commit/commit.ts';
import { commit, ImageError } from '../../src/index.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import { qimg } from './cli.ts';
import { run } from './qemu.ts';

/** Files are named within the directory that is given. */
export interface CommitRequest {
  readonly base?: string;
  readonly top?: string;
  readonly compress?: boolean;
  readonly drop?: boolean;
  readonly relink?: boolean;
  readonly delete?: boolean;
}

export interface Committer {
  /** Rejects with `Refused` where it would not start. */
  commit(dir: string, filename: string, request: CommitRequest): Promise<void>;
  /** Refuses before the first write, and has the forms that relink. */
  readonly isCareful: boolean;
  /** What it merges lets go of what base holds. */
  readonly reclaims?: boolean;
}

export class Refused extends Error {
  override readonly name = 'Refused';
}

export const libraryCommitter: Committer = {
  isCareful: true,
  commit: (dir, filename, request) =>
    orRefused(async () => {
      await commit(join(dir, filename), inDir(dir, request));
    }),
};

/** In windows of a few clusters; what is not to be emptied is committed as ever. */
export const reclaimingCommitter: Committer = {
  isCareful: true,
  reclaims: true,
  commit: (dir, filename, request) =>
    orRefused(async () => {
      const options = { host: nodeHost, ...inDir(dir, request) };
      const reclaim = { reclaim: request.drop !== true, reclaimWindow: 100_000 };
      await commitInEngine(join(dir, filename), { ...options, ...reclaim });
    }),
};

function inDir(dir: string, { base, top, ...rest }: CommitRequest): CommitRequest {
  return {
    ...rest,
    ...(base !== undefined && { base: join(dir, base) }),
    ...(top !== undefined && { top: join(dir, top) }),
  };
}

async function orRefused(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ImageError) || error.message.startsWith('Block job')) throw error;
    throw new Refused(error.message, { cause: error });
  }
}

/** The built command in a process of its own. */
export const cliCommitter: Committer = {
  isCareful: true,
  async commit(dir, filename, request) {
    const { code, stdout, stderr } = await qimg(['commit', ...words(request), filename], dir);
    if (code === 0) return;
    if (/Block job/.test(stderr)) throw new Error(`${stdout}${stderr}`);
    throw new Refused(stderr);
  },
};

/** QEMU has no form that relinks: it is for the others only. */
export const qemuCommitter: Committer = {
  isCareful: false,
  async commit(dir, filename, request) {
    const { compress: _, ...theirs } = request;
    if (request.relink || request.top !== undefined) throw new Error('QEMU has no such form');
    const { code, stdout, stderr } = await run(
      'qemu-img',
      ['commit', '-q', ...words(theirs), filename],
      { cwd: dir },
    );
    if (code !== 0) throw new Refused(`${stdout}${stderr}`);
  },
};

/** The request as the command line of our tool. */
export function words({
  base,
  top,
  drop,
  compress,
  relink,
  delete: remove,
}: CommitRequest): string[] {
  return [
    ...(drop ? ['-d'] : []),
    ...(compress ? ['--compress'] : []),
    ...(base === undefined ? [] : ['-b', base]),
    ...(top === undefined ? [] : ['--top', top]),
    ...(relink ? ['--relink'] : []),
    ...(remove ? ['--delete'] : []),
  ];
}
