// `__com.redhat_block-commit`: the older command, with a contract of its own. The job goes by the name
// of its device.

import { blockCommit, type CommitContext } from './block-commit.ts';
import { findCommitRange } from './commit-range.ts';
import { DaemonError } from './daemon-error.ts';

/** As QMP has them. */
export interface RedhatCommitArguments {
  readonly device: string;
  /** Default: the deepest backing image. */
  readonly base?: string;
  readonly top?: string;
  /** Bytes per second. */
  readonly speed?: number;
}

/** Resolves when the job runs. Rejects with `DaemonError`, all as it was. */
export async function redhatBlockCommit(
  context: CommitContext,
  { device, base, top, speed }: RedhatCommitArguments,
): Promise<void> {
  const { graph } = context;
  const node = graph.device(device) ?? graph.node(device);
  if (node === undefined) throw new DaemonError(`Device '${device}' not found`, 'DeviceNotFound');
  if (node.users.some(({ as }) => as === 'main node')) {
    throw new DaemonError(`Device '${device}' is in use`, 'DeviceInUse');
  }
  if (node.driver !== 'qcow2') {
    const words = `Block format '${node.driver}' used by device '${device}' does not support feature`;
    throw new DaemonError(`${words} 'commit'`, 'NotSupported');
  }
  if (speed !== undefined && speed < 0) {
    throw new DaemonError("Invalid parameter 'speed'", 'InvalidParameter');
  }
  if (top === undefined) throw new DaemonError("Parameter 'top' is missing");
  const args = { 'job-id': device, device, top, ...(base !== undefined && { base }) };
  if ((await findCommitRange(graph, args)).isActive) {
    throw new DaemonError(`Top image file ${top} is the active layer, which can not be committed`);
  }
  await blockCommit(context, { ...args, ...(speed !== undefined && { speed }) });
}
