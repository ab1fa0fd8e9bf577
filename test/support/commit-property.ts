// The oracle property of commit: on a random chain made by QEMU, commit a random pair of layers in a
// random form, and judge with the model and with QEMU's own commit on a copy.

import { cpSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { type BuiltChain, buildChain } from './build-chain.ts';
import { ChainModel } from './chain-model.ts';
import {
  type Case,
  cases,
  dead,
  hasSnapshots,
  layerAt,
  mustRefuse,
  qemuRefuses,
  relinked,
  relinks,
  requestOf,
} from './commit-cases.ts';
import { type Committer, libraryCommitter, qemuCommitter, Refused, words } from './committers.ts';
import { checkClean, compare, infoOf, mapOf, snapshotOwn, viewOf, virtualSize } from './qemu.ts';
import { makeTemp } from './temp.ts';

/** Throws where anything is not as it must be; the message has the commands to see it again. */
export async function holds(each: Case, committer: Committer): Promise<void> {
  const { dir, cleanup } = makeTemp();
  const commands: string[] = [];
  try {
    const images = join(dir, 'images');
    mkdirSync(images);
    const chain = await buildChain(each.spec, images, commands);
    const { filename, request } = requestOf(each, (index) => layerAt(chain, index).name);
    commands.push(`qimg-ts ${['commit', ...words(request), filename].join(' ')}`);
    await new Judge(each, chain, committer, dir).judge();
  } catch (error) {
    const reason = error instanceof Error ? error.stack : String(error);
    const { form, top, base } = each;
    throw new Error(
      `form ${form}: layer ${top} into layer ${base}\n${commands.join('\n')}\n${reason}`,
    );
  } finally {
    cleanup();
  }
}

class Judge {
  readonly #case: Case;
  readonly #chain: BuiltChain;
  readonly #committer: Committer;
  readonly #model: ChainModel;
  readonly #scratch: string;
  /** A copy of the chain as it was, for QEMU to commit. */
  readonly #rival: string;

  constructor(each: Case, chain: BuiltChain, committer: Committer, dir: string) {
    this.#case = each;
    this.#chain = chain;
    this.#committer = committer;
    this.#model = new ChainModel(each.spec);
    this.#scratch = join(dir, 'scratch.raw');
    this.#rival = join(dir, 'rival');
  }

  async judge(): Promise<void> {
    for (const [i] of this.#chain.layers.entries()) await this.#sameView(i, 'before anything');
    const snapshots = await this.#snapshots();
    cpSync(this.#chain.dir, this.#rival, { recursive: true });

    const refusal = await this.#commit(this.#committer, this.#chain.dir);
    const { isCareful } = this.#committer;
    if (isCareful ? mustRefuse(this.#case) : qemuRefuses(this.#case)) {
      if (refusal === undefined) throw new Error('not refused');
      if (isCareful) this.#sameFiles(new Set());
      return;
    }
    if (refusal !== undefined) throw refusal;

    await this.#judgeViews();
    await this.#judgeFiles();
    await this.#judgeSnapshots(snapshots);
    if (this.#case.form === 'default') await this.#judgeEmptied();
    await this.#judgeBesideQemu();
  }

  async #commit(committer: Committer, dir: string): Promise<Refused | undefined> {
    const { filename, request } = requestOf(this.#case, (index) => this.#layer(index).name);
    try {
      await committer.commit(dir, filename, request);
      return undefined;
    } catch (error) {
      if (error instanceof Refused) return error;
      throw error;
    }
  }

  #layer(index: number) {
    return layerAt(this.#chain, index);
  }

  async #sameView(index: number, when: string): Promise<void> {
    const { file, format } = this.#layer(index);
    const view = await viewOf(file, format, this.#scratch);
    same(view, this.#model.view(index), `the view through layer ${index} ${when}`);
  }

  async #judgeViews(): Promise<void> {
    const { top, base, form } = this.#case;
    const { file, format } = this.#layer(base);
    const overlay = relinked(this.#case);
    const expected = this.#model.committed(top, base, overlay);
    same(await viewOf(file, format, this.#scratch), expected, 'the view through base');
    const lowest = form === 'inner' ? top + 1 : top;
    for (let i = lowest; i < this.#chain.layers.length; i++) await this.#sameView(i, 'afterwards');
  }

  /** Clean where they are there; and nothing was written to that had no need to change. */
  async #judgeFiles(): Promise<void> {
    const { top, base, form, deletes } = this.#case;
    const gone = new Set(deletes ? dead(this.#case) : []);
    for (const [i, { name, file, format }] of this.#chain.layers.entries()) {
      if (gone.has(i)) {
        if (existsSync(file)) throw new Error(`${name} was not deleted`);
      } else if (format === 'qcow2') await checkClean(file);
    }
    const overlay = relinked(this.#case);
    const changed = new Set([base, ...(form === 'default' ? [top] : []), ...gone]);
    if (this.#committer.reclaims && form !== 'drop') {
      for (let i = base + 1; i <= top; i++) changed.add(i);
    }
    if (overlay !== undefined) {
      changed.add(overlay);
      const info = await infoOf(this.#layer(overlay).file);
      const { name, format } = this.#layer(base);
      if (info['backing-filename'] !== name || info['backing-filename-format'] !== format) {
        throw new Error(`layer ${overlay} stands on ${JSON.stringify(info)}`);
      }
    }
    this.#sameFiles(changed);
  }

  #sameFiles(except: ReadonlySet<number>): void {
    for (const [i, { name, file }] of this.#chain.layers.entries()) {
      if (except.has(i)) continue;
      same(readFileSync(file), readFileSync(join(this.#rival, name)), `the file ${name}`);
    }
  }

  async #snapshots(): Promise<ReadonlyMap<string, Buffer>> {
    const contents = new Map<string, Buffer>();
    for (const { file, snapshots } of this.#chain.layers) {
      for (const name of snapshots) {
        contents.set(`${file}\0${name}`, await snapshotOwn(file, name, this.#scratch));
      }
    }
    return contents;
  }

  async #judgeSnapshots(before: ReadonlyMap<string, Buffer>): Promise<void> {
    for (const [key, content] of before) {
      const [file = '', name = ''] = key.split('\0');
      if (!existsSync(file)) continue;
      // QEMU shows a snapshot in the size that the disk has now.
      const after = await snapshotOwn(file, name, this.#scratch);
      same(after.subarray(0, content.length), content, `snapshot ${name} of ${file}`);
    }
  }

  async #judgeEmptied(): Promise<void> {
    const { file } = this.#layer(this.#case.top);
    // What lies past the end of the backing file counts as present there, with depth 1.
    const own = (await mapOf(file)).filter(({ depth, present }) => depth === 0 && present);
    if (own.length > 0) throw new Error(`the top still holds ${JSON.stringify(own)}`);
  }

  /** QEMU's commit of the same layers on the copy: the same base, and no smaller a top. */
  async #judgeBesideQemu(): Promise<void> {
    const { form, spec, top, base } = this.#case;
    if (relinks(this.#case) || this.#committer === qemuCommitter) return;
    const refusal = await this.#commit(qemuCommitter, this.#rival);
    if (qemuRefuses(this.#case)) {
      if (refusal === undefined) throw new Error('QEMU commits what it refused before');
      return;
    }
    if (refusal !== undefined) throw refusal;
    const { name, file, format } = this.#layer(base);
    const theirs = join(this.#rival, name);
    const sizes = [await virtualSize(file, format), await virtualSize(theirs, format)];
    if (sizes[0] !== sizes[1]) throw new Error(`base has ${sizes[0]} bytes, QEMU's ${sizes[1]}`);
    await compare(file, format, theirs, format);
    const upper = spec.layers[top];
    if (upper === undefined || form !== 'default' || upper.compat !== '1.1') return;
    if (hasSnapshots(upper)) return;
    const topName = this.#layer(top).name;
    const larger = statSync(this.#layer(top).file).size - statSync(join(this.#rival, topName)).size;
    if (larger > 0) throw new Error(`the emptied top is ${larger} bytes larger than QEMU's`);
  }
}

function same(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what}: ${actual.length} bytes instead of ${expected.length}`);
  }
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  throw new Error(`${what}: byte ${at} is ${actual[at]} instead of ${expected[at]}`);
}

export interface RunOptions {
  readonly committer?: Committer;
  /** Milliseconds after which no further case, and no smaller counterexample, is tried. */
  readonly timeLimit?: number;
  /** Told of each case that fails: the first one, then the smaller ones. */
  readonly onFailure?: (error: unknown) => void;
}

export async function runCases(
  seed: number,
  runs: number,
  { committer = libraryCommitter, timeLimit, onFailure }: RunOptions = {},
): Promise<void> {
  const possible = committer.isCareful ? cases : cases.filter((each) => !relinks(each));
  await fc.assert(
    fc.asyncProperty(possible, (each) =>
      holds(each, committer).catch((error: unknown) => {
        onFailure?.(error);
        throw error;
      }),
    ),
    {
      seed,
      numRuns: runs,
      ...(timeLimit !== undefined && {
        interruptAfterTimeLimit: timeLimit,
        markInterruptAsFailure: true,
      }),
    },
  );
}
