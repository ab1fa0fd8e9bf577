// Recorded dialogues (dialogues/*.txt), as far as they are about jobs, led with the daemon's jobs
// without a monitor between: the same replies, the same events, in the same order.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BlockCommitArguments } from '../../src/daemon/commit-range.ts';
import { asDaemonError } from '../../src/daemon/daemon-error.ts';
import { redhatBlockCommit } from '../../src/daemon/redhat-commit.ts';
import type { Host } from '../../src/io/host.ts';
import type { LiveChain } from './live-chain.ts';

export interface Exchange {
  readonly command: string;
  readonly args: { readonly [key: string]: unknown };
  /** Replies and events, as recorded. */
  readonly answers: readonly unknown[];
}

/** The exchanges of a part of a dialogue: from a line that holds `from` to the next heading. */
export function exchangesOf(file: string, from?: string): readonly Exchange[] {
  const text = readFileSync(join(import.meta.dirname, 'dialogues', file), 'utf8');
  const lines = text.split('\n');
  const start = from === undefined ? 0 : lines.findIndex((line) => line.includes(from)) + 1;
  const exchanges: Exchange[] = [];
  for (const line of lines.slice(start)) {
    if (/^(===|---)/.test(line)) break;
    const message = /^\s*(->|<-) (\{.*)$/.exec(line);
    if (message === null) continue;
    const value = JSON.parse(message[2] ?? '');
    const last = exchanges.at(-1);
    if (message[1] === '<-') (last?.answers as unknown[] | undefined)?.push(value);
    else exchanges.push({ command: value.execute, args: value.arguments ?? {}, answers: [] });
  }
  return exchanges;
}

/** The answers of ours, timing-dependent numbers left as they are. */
export async function lead(live: LiveChain<Host>, { command, args }: Exchange): Promise<unknown[]> {
  const answers: unknown[] = [];
  const hear = () => {
    for (const [event, data] of live.take()) answers.push({ event, data });
  };
  hear();
  let reply: unknown;
  try {
    reply = { return: (await act(live, command, args)) ?? {} };
  } catch (error) {
    const { errorClass, message } = asDaemonError(error);
    reply = { error: { class: errorClass, desc: message } };
  }
  hear();
  answers.push(reply);
  await live.quiet();
  hear();
  return answers;
}

async function act(
  live: LiveChain<Host>,
  command: string,
  args: { readonly [key: string]: unknown },
): Promise<unknown> {
  const { jobs } = live;
  const { device = '', id = '' } = args as { device?: string; id?: string };
  switch (command) {
    case 'block-commit':
      return await live.commit(args as unknown as BlockCommitArguments);
    case '__com.redhat_block-commit':
      return await redhatBlockCommit(live, { device, ...args });
    case 'query-jobs':
      return jobs.list();
    case 'query-block-jobs':
      return jobs.listBlockJobs();
    case 'block-job-pause':
      return jobs.byDevice(device).pause();
    case 'block-job-resume':
      return jobs.byDevice(device).resume();
    case 'block-job-complete':
      return jobs.byDevice(device).complete();
    case 'block-job-set-speed':
      return jobs.byDevice(device).setSpeed(Number(args['speed']));
    case 'block-job-cancel':
      return await jobs.cancelBlockJob(device, args['force'] === true);
    case 'job-pause':
      return jobs.byId(id).pause();
    case 'job-resume':
      return jobs.byId(id).resume();
    case 'job-complete':
      return jobs.byId(id).complete();
    case 'job-cancel':
      return await jobs.byId(id).cancel();
    case 'job-finalize':
      return await jobs.byId(id).finalize();
    case 'job-dismiss':
      return jobs.byId(id).dismiss();
    case 'quit':
      return await jobs.endAll();
    default:
      throw new Error(`${command} is not about jobs`);
  }
}

/** Offsets and whether it is busy depend on when one asks. */
export function withoutTiming(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutTiming);
  if (typeof value !== 'object' || value === null) return value;
  const free = new Set(['offset', 'busy', 'current-progress']);
  const entries = Object.entries(value).map(([key, member]) => [
    key,
    free.has(key) ? 'free' : withoutTiming(member),
  ]);
  return Object.fromEntries(entries);
}
