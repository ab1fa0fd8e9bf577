// What is cut off by a power cut, and what has to hold in whatever it leaves. A family of operations is
// a file of this directory; index.ts lists them. Nothing here needs a test runner.

import { createHash } from 'node:crypto';
import type { Chain } from '../../../src/chain/chain.ts';
import { openChain } from '../../../src/chain/open.ts';
import type { Secrets } from '../../../src/chain/secrets.ts';
import { nodeCodecs } from '../../../src/io/codecs.ts';
import type { Host } from '../../../src/io/host.ts';
import { MemoryHost } from '../../../src/io/memory-host.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import { type Files, hostWith, type Random } from '../crash.ts';

export interface CrashOperation {
  readonly name: string;
  /** A layout of its files that `random` picks. */
  prepare(random: Random): Promise<CrashScene>;
}

export interface CrashScene {
  /** Durable when it starts. */
  readonly files: Files;
  /** The machine's files can share extents. */
  readonly clones?: boolean;
  /** Corruption is what it is about: images are looked at once another run has ended. */
  readonly corrupt?: boolean;
  /** Who is told of errors: a program knows by itself what it was doing. Default: a user. */
  readonly caller?: 'program';
  /** The operation, recorded. */
  run(host: MemoryHost): Promise<void>;
  /**
   * Throws where a state is none that the operation may leave. That each image is free of corruption
   * is looked at for all operations alike. `at`: events before the cut.
   */
  judge(state: MemoryHost, at: number): Promise<void>;
  /** What was promised by then, for states that are the same but for that. Default: always the same. */
  promise?(at: number): string;
  /** The same command again; throws unless the job is done then. */
  finish(state: MemoryHost): Promise<void>;
}

export const CODECS = { codecs: nodeCodecs };
export const openState = (files: Files): MemoryHost => hostWith(files, CODECS);
export const newHost = (): MemoryHost => new MemoryHost(CODECS);

export function ensure(holds: boolean, message: string): asserts holds {
  if (!holds) throw new Error(message);
}

export interface Command {
  /** Images that guests use, by name: their view never changes. */
  readonly tops: readonly string[];
  readonly secrets?: Secrets;
  /** Images that store zeros, or only show them, by how far earlier runs came. */
  readonly storingZeros?: readonly string[];
  /** How files are opened whose bare name is not enough. */
  readonly targets?: ReadonlyMap<string, string>;
  run(host: Host): Promise<void>;
  /** More than the views. `state` is not changed. */
  judge?(state: MemoryHost): Promise<void>;
}

/** A command over a chain: the guests' view stays, and another run ends where an undisturbed one does. */
export async function commandScene(files: Files, command: Command): Promise<CrashScene> {
  const { tops } = command;
  const looked = [...files.keys()];
  const views = new Map<string, string>();
  for (const name of tops)
    views.set(name, await viewDigest(openState(files), name, command.secrets));
  const ideal = openState(files);
  await command.run(ideal);
  const wanted = await outcomeOf(ideal, looked, command);

  const keepsViews = async (state: MemoryHost, when: string) => {
    for (const [name, view] of views) {
      const found = await viewDigest(state, name, command.secrets);
      ensure(found === view, `the view through ${name} is another one ${when}`);
    }
  };
  return {
    files,
    run: command.run,
    async judge(state) {
      await keepsViews(state, 'after the cut');
      await command.judge?.(state);
    },
    async finish(state) {
      const found = await runAgain(command, state);
      await keepsViews(state, 'after another run');
      const outcome = await outcomeOf(state, looked, command);
      ensure(
        outcome === wanted,
        `another run ends with\n${outcome}\ninstead of\n${wanted}\n${found}`,
      );
    },
  };
}

/** Where the layer that was to be merged is gone, a command says that it does not find it: it is done. */
async function runAgain(command: Command, state: MemoryHost): Promise<string> {
  try {
    await command.run(state);
    return '';
  } catch (error) {
    if ((error as { code?: string }).code !== 'not-found') throw error;
    return `(${error})`;
  }
}

export async function viewDigest(
  host: MemoryHost,
  name: string,
  secrets?: Secrets,
): Promise<string> {
  await using chain = await openChain(name, { host, ...(secrets && { secrets }) });
  return await digestOf(chain);
}

async function digestOf(chain: Chain): Promise<string> {
  const view = new Uint8Array(chain.size);
  await chain.read(0, view);
  return createHash('sha1').update(view).digest('hex').slice(0, 16);
}

/** What can be said of the files afterwards, one on a line: what a rerun has to bring about. */
async function outcomeOf(
  host: MemoryHost,
  names: Iterable<string>,
  command: Command,
): Promise<string> {
  const lines: string[] = [];
  for (const name of names) {
    if (name.endsWith('.data')) continue;
    lines.push(`${name}: ${await outcomeOfFile(host, name, command)}`);
  }
  return lines.join('\n');
}

async function outcomeOfFile(
  host: MemoryHost,
  name: string,
  { secrets, targets, storingZeros }: Command,
): Promise<string> {
  if (host.fileBytes(name) === undefined) return 'gone';
  const how = { host, ...(secrets && { secrets }) };
  // A description says the format itself, and has the layers that there were.
  await using chain = await (targets?.has(name)
    ? openChain(await standingIn(host, name, targets), how)
    : openChain(name, { ...how, format: name.endsWith('.raw') ? 'raw' : 'qcow2' }));
  const { top, size } = chain;
  const digest = await digestOf(chain);
  if (!(top instanceof Qcow2Image)) return `${size} bytes, ${digest}`;
  let own = 0;
  for (let at = 0; at < size; ) {
    for (const { kind, offset, length } of await top.extents(at, size - at)) {
      if (kind !== 'unallocated') own += length;
      at = offset + length;
    }
  }
  const { backingFile, extensions } = top.header;
  const types = extensions.map(({ type }) => type.toString(16)).sort();
  const held = storingZeros?.includes(name) ? 'some' : own;
  return `${size} bytes, ${digest}, ${held} of its own, over ${backingFile ?? 'nothing'}, ${types}`;
}

/** Its description, over what its header names now. */
async function standingIn(
  host: MemoryHost,
  name: string,
  targets: ReadonlyMap<string, string>,
): Promise<string> {
  const { backingFile } = await Qcow2Image.readHeader(
    await host.openStorage(name, { writable: false }),
  );
  const node = JSON.parse(targets.get(name)?.slice('json:'.length) ?? '{}');
  const below = backingFile === null ? null : await standingIn(host, `/${backingFile}`, targets);
  const backing = below === null ? null : JSON.parse(below.slice('json:'.length));
  return `json:${JSON.stringify({ ...node, backing })}`;
}
