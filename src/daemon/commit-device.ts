// `commit`: the layer of a device into the one that it stands on, all at once; then it is empty. What
// guests ask for waits meanwhile. The order is that of every commit: base holds everything, durably,
// before the layer above lets go of it.

import { checkBase, checkFormat } from '../commit/base-checks.ts';
import { fillBase, type LiveControl } from '../commit/live.ts';
import { type ImageError, strerror } from '../errors.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { type CommitContext, checkSiblings } from './block-commit.ts';
import { chainOf } from './chain-of.ts';
import { DaemonError, wordsOf } from './daemon-error.ts';
import type { Graph } from './graph.ts';
import type { GraphChanges } from './graph-changes.ts';
import { holdAbove } from './hold.ts';
import type { BlockNode } from './node.ts';

/** Rejects with a `DaemonError`: in its words, which are a line, or two, there is the name as given. */
export async function commitDevice(context: CommitContext, name: string): Promise<void> {
  const { graph } = context;
  await graph.change(async (changes) => {
    for (const node of name === 'all' ? servedOver(graph) : [deviceOf(graph, name)]) {
      try {
        await new DeviceCommit(context, node, changes).run();
      } catch (error) {
        throw failure(name, error);
      }
    }
  });
}

function deviceOf(graph: Graph, name: string): BlockNode {
  const node = graph.device(name);
  if (node === undefined) throw new DaemonError(`Device '${name}' not found`);
  return node;
}

/** What a device, or an export, has as its disk, and something below it. */
function servedOver({ nodes }: Graph): readonly BlockNode[] {
  const isServed = ({ users }: BlockNode) =>
    users.some(({ above, as }) => above === undefined && as === 'root');
  return [...nodes].reverse().filter((node) => node.backing !== undefined && isServed(node));
}

/** Something that strerror(3) has words for. */
class Refusal extends Error {}

function failure(name: string, error: unknown): DaemonError {
  const tell = (words: string) => `'commit' error for '${name}': ${words}`;
  if (error instanceof Refusal) return new DaemonError(tell(error.message));
  if (!(error instanceof DaemonError)) return new DaemonError(tell(wordsOf(error)));
  return new DaemonError(`${error.message}\n${tell(strerror('EPERM'))}`);
}

class DeviceCommit {
  readonly #context: CommitContext;
  readonly #active: BlockNode;
  readonly #changes: GraphChanges;

  constructor(context: CommitContext, active: BlockNode, changes: GraphChanges) {
    this.#context = context;
    this.#active = active;
    this.#changes = changes;
  }

  async run(): Promise<void> {
    const active = this.#active;
    const { backing, layer } = active;
    if (backing === undefined || !(layer instanceof Qcow2Image)) {
      throw new Refusal(strerror('ENOTSUP'));
    }
    if ([active, backing].some(isUnderJob)) throw new Refusal(strerror('EBUSY'));
    if (this.#context.asQemu !== true) {
      checkSiblings({ nodes: [active, backing], topIndex: 0, baseIndex: 1 });
    }
    const release = await this.#claim(backing, layer);
    try {
      const resume = await holdAbove([active]);
      try {
        await this.#merge(layer, backing);
      } finally {
        resume();
      }
    } finally {
      await release();
    }
  }

  /** Asks all that can refuse. Throws, all as it was. */
  async #claim(backing: BlockNode, layer: Qcow2Image): Promise<() => Promise<void>> {
    const changes = this.#changes;
    const undo: (() => Promise<void>)[] = [];
    const release = async () => {
      for (const each of undo.splice(0).reverse()) {
        await each().catch((error) => this.#warn(backing, error));
      }
    };
    const who = { who: 'an unnamed block device' };
    try {
      const source = await changes.attach(this.#active, {
        ...who,
        use: ['consistent read', 'write'],
      });
      undo.push(() => changes.detach(source));
      await this.#check(layer);
      if (backing.readOnly) {
        await changes.setWritable(backing, true);
        undo.push(() => changes.setWritable(backing, false));
      }
      const target = await changes.attach(backing, { ...who, use: ['write', 'resize'] });
      undo.push(() => changes.detach(target));
      return release;
    } catch (error) {
      await release();
      throw error;
    }
  }

  async #check(layer: Qcow2Image): Promise<void> {
    const refuse = (error: ImageError) => {
      throw error;
    };
    const { chain } = await chainOf(this.#active, this.#context.graph.host);
    const [top, base] = [chain.at(0), chain.at(1)];
    checkFormat({ chain, baseIndex: 1, base }, refuse);
    await checkBase({ top, base }, {}, refuse);
    const refusal = layer.refusalToWrite({ dataUnchanged: true, writable: true });
    if (refusal !== undefined) throw refusal;
    await layer.verifyToEmpty();
  }

  async #merge(layer: Qcow2Image, backing: BlockNode): Promise<void> {
    await layer.flush();
    const { pieceBytes } = this.#context;
    const source = { layers: [layer], base: backing.layer, longest: () => layer.size, pieceBytes };
    await fillBase(source, TO_THE_END);
    await layer.empty();
  }

  #warn(backing: BlockNode, error: unknown): void {
    this.#context.warn?.(`After a commit into '${backing.name}': ${wordsOf(error)}`);
  }
}

/** A job has it, whatever for; or it stands on what a job works at. */
function isUnderJob({ users }: BlockNode): boolean {
  return users.some(({ who, as }) => as !== 'root' && / job '/.test(who));
}

const TO_THE_END: LiveControl = {
  turn: async () => true,
  charge: () => undefined,
  progress: () => undefined,
  failed: async () => false,
};
