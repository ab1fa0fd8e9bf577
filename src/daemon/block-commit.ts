// `block-commit`: from its arguments to a job at work. Everything that can refuse it is asked before
// the first byte is written.

import { type BlockCommitArguments, type CommitRange, findCommitRange } from './commit-range.ts';
import { CommitWork } from './commit-work.ts';
import { asDaemonError, DaemonError } from './daemon-error.ts';
import type { Graph } from './graph.ts';
import type { Jobs } from './jobs.ts';

export interface CommitContext {
  readonly graph: Graph;
  readonly jobs: Jobs;
  /** Goes on where QEMU does and we would not: where images beside the chain stand on what changes. */
  readonly asQemu?: boolean;
  /** What is copied at a time, in bytes. Default 512 KiB. */
  readonly pieceBytes?: number;
  /** Hears what could not be put back after a job. */
  readonly warn?: (message: string) => void;
}

/** Resolves when the job runs. Rejects with `DaemonError`, all as it was. */
export async function blockCommit(
  { graph, jobs, asQemu = false, pieceBytes, warn }: CommitContext,
  args: BlockCommitArguments,
): Promise<void> {
  const { speed, 'backing-file': backingFile, 'filter-node-name': filterName } = args;
  await graph.change(async (changes) => {
    const range = await findCommitRange(graph, args);
    const id = args['job-id'] ?? range.active.device;
    if (range.isActive && filterName !== undefined) graph.checkNodeName(filterName);
    jobs.checkId(id);
    // It would have to follow what the guest writes meanwhile.
    if (range.isActive && (speed ?? 0) >= 0) throw activeError();
    const job = jobs.create({
      id,
      ...(args['auto-finalize'] !== undefined && { autoFinalize: args['auto-finalize'] }),
      ...(args['auto-dismiss'] !== undefined && { autoDismiss: args['auto-dismiss'] }),
      ...(args['on-error'] !== undefined && { onError: args['on-error'] }),
    });
    const work = new CommitWork(graph, range, { backingFile, pieceBytes, warn });
    try {
      if (!asQemu) checkSiblings(range);
      await work.begin(job, args, changes);
    } catch (error) {
      job.refused();
      throw asDaemonError(error);
    }
    job.start(work);
  });
}

/** Who stands on a layer below top would show something else as soon as base is written. */
export function checkSiblings({
  nodes,
  topIndex,
  baseIndex,
}: Pick<CommitRange, 'nodes' | 'topIndex' | 'baseIndex'>): void {
  for (const node of nodes.slice(topIndex + 1, baseIndex + 1)) {
    const others = node.users.flatMap(({ above }) => (above?.role === 'backing' ? above.node : []));
    const sibling = others.find((each) => !nodes.includes(each));
    if (sibling === undefined) continue;
    throw new DaemonError(
      `Node '${sibling.name}' stands on '${node.name}', too, and would show something else`,
    );
  }
}

function activeError(): DaemonError {
  return new DaemonError(
    "'top' is the active layer, or has a writer on it: committing it while it is in use is not " +
      'supported. Name a top below it',
  );
}
