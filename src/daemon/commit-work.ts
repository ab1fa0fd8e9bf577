// An intermediate commit as a job of the daemon: whom it keeps from what meanwhile, what it does to
// the graph at its end, and how all is let go of again.

import type { ChainLayer } from '../chain/chain.ts';
import { prepareRelink, type Relink } from '../chain/relink.ts';
import { checkBase, checkFormat } from '../commit/base-checks.ts';
import { fillBase, handOver, type LiveControl, type LiveSource, lengthOf } from '../commit/live.ts';
import type { ImageError } from '../errors.ts';
import type { Permission } from '../io/locks.ts';
import { checkBackingFits } from '../qcow2/backing.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { chainOf } from './chain-of.ts';
import type { BlockCommitArguments, CommitRange } from './commit-range.ts';
import { DaemonError } from './daemon-error.ts';
import type { Graph } from './graph.ts';
import type { Attachment, GraphChanges } from './graph-changes.ts';
import { holdAbove } from './hold.ts';
import type { Job, JobWork } from './job.ts';
import { BlockNode, type User } from './node.ts';

/** An overlay of top, and how its header is to name base. */
interface Overlay {
  readonly edge: User;
  readonly node: BlockNode;
  readonly relink: Relink;
}

export interface CommitWorkOptions {
  /** What headers are to name base, as it is. Default: a name that leads there. */
  readonly backingFile: string | undefined;
  /** What is copied at a time, in bytes. */
  readonly pieceBytes: number | undefined;
  /** Hears what could not be put back after a job. */
  readonly warn: ((message: string) => void) | undefined;
}

export class CommitWork implements JobWork {
  readonly type = 'commit';
  readonly #graph: Graph;
  readonly #range: CommitRange;
  readonly #options: CommitWorkOptions;
  readonly #users: User[] = [];
  #filter: BlockNode | undefined;
  /** Opened for reading, and written to for as long as it lasts. */
  readonly #reopened: BlockNode[] = [];

  constructor(graph: Graph, range: CommitRange, options: CommitWorkOptions) {
    this.#graph = graph;
    this.#range = range;
    this.#options = options;
  }

  get #base(): BlockNode {
    return nodeAt(this.#range, this.#range.baseIndex);
  }

  get #top(): BlockNode {
    return nodeAt(this.#range, this.#range.topIndex);
  }

  get length(): number {
    return lengthOf(this.#source);
  }

  get #source(): LiveSource {
    const { nodes, topIndex, baseIndex } = this.#range;
    const layers = nodes.slice(topIndex, baseIndex).map(({ layer }) => layer);
    const overlays = () => (this.#filter?.users ?? []).flatMap(({ above }) => above?.node ?? []);
    const longest = () => Math.max(0, ...overlays().map(({ layer }) => layer.size));
    const { pieceBytes } = this.#options;
    return { layers, base: this.#base.layer, longest, pieceBytes };
  }

  /** Claims what it needs, and asks all that can refuse. Throws, all let go of again. */
  async begin(job: Job, args: BlockCommitArguments, changes: GraphChanges): Promise<void> {
    try {
      await this.#claim(job, args, changes);
    } catch (error) {
      await this.#release(changes);
      throw error;
    }
  }

  async #claim(job: Job, args: BlockCommitArguments, changes: GraphChanges): Promise<void> {
    const { active, nodes, topIndex, baseIndex } = this.#range;
    const who = `${this.type} job '${job.id}'`;
    const attach = async (node: BlockNode, attachment: Attachment) => {
      this.#users.push(await changes.attach(node, attachment));
    };
    await attach(active, { who, as: 'main node', use: [] });
    if (args.speed !== undefined) job.setSpeed(args.speed);
    await this.#checkBase();
    if (this.#base.readOnly) await this.#makeWritable(this.#base, changes);
    await this.#putFilter(args['filter-node-name'], changes);
    // What lies between makes no sense by itself while base is written.
    const share: Permission[] = ['write', 'write unchanged'];
    for (const node of nodes.slice(topIndex, baseIndex)) {
      await attach(node, { who, as: 'intermediate node', use: [], share });
    }
    await attach(this.#base, { who, as: 'base', use: [] });
    const grows = this.#base.layer.size < this.#top.layer.size;
    const resize: readonly Permission[] = grows ? ['resize'] : [];
    await attach(this.#base, {
      use: ['consistent read', 'write', ...resize],
      share: ['consistent read', 'write unchanged'],
    });
    await attach(this.#top, { use: [] });
    // What is wrong with a name is told now, not when all is copied.
    await this.#overlays();
  }

  async #makeWritable(node: BlockNode, changes: GraphChanges): Promise<void> {
    await changes.setWritable(node, true);
    this.#reopened.push(node);
  }

  async #checkBase(): Promise<void> {
    const { chain, topIndex, baseIndex } = this.#range;
    const refuse = (error: ImageError) => {
      throw error;
    };
    const base = chain.at(baseIndex);
    checkFormat({ chain, baseIndex, base }, refuse);
    await checkBase({ top: chain.at(topIndex), base }, {}, refuse);
  }

  async #putFilter(given: string | undefined, changes: GraphChanges): Promise<void> {
    if (given !== undefined) this.#graph.checkNodeName(given);
    const name = given ?? this.#graph.generateName();
    const top = this.#top;
    const filter = new BlockNode({ ...top.settings, name, readOnly: true }, 'commit_top');
    filter.opened(top.parts);
    await changes.putAbove(top, filter);
    this.#filter = filter;
  }

  run(control: LiveControl): Promise<boolean> {
    return fillBase(this.#source, control);
  }

  /**
   * Base durable; then each overlay of top, one after the other: its header, and what it reads
   * through. Then what nobody needs any more leaves the graph.
   */
  finalize(): Promise<void> {
    return this.#graph.change(async (changes) => {
      const overlays = await this.#overlays();
      for (const { node } of overlays) {
        if (node.readOnly) await this.#makeWritable(node, changes);
      }
      const left = new Map(overlays.map((each) => [each.relink.overlay, each.edge]));
      const moved: User[] = [];
      try {
        const relinks = overlays.map(({ relink }) => relink);
        await handOver(this.#base.layer, relinks, (overlay) => {
          const edge = left.get(overlay as Qcow2Image);
          if (edge !== undefined) moved.push(edge);
        });
      } finally {
        const resume = await holdAbove(moved.flatMap(({ above }) => above?.node ?? []));
        try {
          changes.move(moved, this.#base);
          if (moved.length === overlays.length) await this.#moveReaders(changes);
          await this.#release(changes);
        } finally {
          resume();
        }
      }
    });
  }

  /** Who read through top goes on with base, which shows the same now. */
  async #moveReaders(changes: GraphChanges): Promise<void> {
    for (const user of this.#filter?.users ?? []) {
      try {
        await user.onMove?.(this.#base);
        if (user.onMove !== undefined) changes.move([user], this.#base);
      } catch {
        // It stays where it is: top goes on showing the same over base.
      }
    }
  }

  undo(): Promise<void> {
    return this.#graph.change((changes) => this.#release(changes));
  }

  /**
   * Who used top before does so again; base is read, and no more, where it was before. What goes wrong
   * with that is told: the job's own work has ended well or badly by then.
   */
  async #release(changes: GraphChanges): Promise<void> {
    const attempt = async (work: () => Promise<void>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        const words = error instanceof Error ? error.message : String(error);
        this.#options.warn?.(`After a commit into '${this.#base.name}': ${words}`);
      }
    };
    for (const user of this.#users.splice(0).reverse()) {
      await attempt(() => changes.detach(user));
    }
    const filter = this.#filter;
    this.#filter = undefined;
    if (filter !== undefined) await attempt(() => changes.takeAway(filter));
    // Where that fails it stays open, and locked, for writing.
    for (const node of this.#reopened.splice(0)) {
      await attempt(() => changes.setWritable(node, false));
    }
  }

  /** The overlays of top, and the names that lead from them to base, checked. */
  async #overlays(): Promise<readonly Overlay[]> {
    const { host } = this.#graph;
    const { chain, nodes } = await chainOf(this.#range.active, host);
    const baseIndex = nodes.indexOf(this.#base);
    const [base, via] = [chain.at(baseIndex), chain.at(baseIndex - 1)];
    const found: Overlay[] = [];
    for (const edge of this.#filter?.users ?? []) {
      const node = edge.above?.node;
      if (node === undefined || !(node.layer instanceof Qcow2Image)) continue;
      const refusal = node.layer.refusalToWrite({ dataUnchanged: true, writable: true });
      if (refusal !== undefined) throw refusal;
      found.push({ edge, node, relink: await this.#relink(node.layer, base, via) });
    }
    return found;
  }

  async #relink(overlay: Qcow2Image, base: ChainLayer, via: ChainLayer): Promise<Relink> {
    const { format } = base.layer;
    const { backingFile } = this.#options;
    const isFile = this.#base.parts.hostFile !== undefined;
    if (backingFile === undefined && isFile) {
      return await prepareRelink(this.#graph.host, overlay, base, via);
    }
    const name = backingFile ?? base.name;
    await checkBackingFits(overlay.storage, { name, format });
    return { overlay, name, format };
  }
}

function nodeAt({ nodes }: CommitRange, index: number): BlockNode {
  const node = nodes[index];
  if (node === undefined) throw new DaemonError(`internal error: no layer ${index}`);
  return node;
}
