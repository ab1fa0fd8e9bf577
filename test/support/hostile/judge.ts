// What a hostile chain may do to us: nothing but be refused by an ImageError, in bounded work and
// without a write. Where it opens, its commit must leave the view through the top and sound files,
// or be refused before the first write.

import { compareChains } from '../../../src/chain/compare.ts';
import { type ChainTarget, type Description, openChain } from '../../../src/chain/open.ts';
import { surveyChain } from '../../../src/chain/survey.ts';
import { describeImage } from '../../../src/cli/describe-image.ts';
import { infoText } from '../../../src/cli/info-text.ts';
import { qemuJson } from '../../../src/cli/json.ts';
import { commit } from '../../../src/commit/commit.ts';
import { ImageError } from '../../../src/errors.ts';
import { nodeCodecs } from '../../../src/io/codecs.ts';
import { nodeCrypto } from '../../../src/io/crypto.ts';
import type { Codecs } from '../../../src/io/host.ts';
import { checkImage } from '../../../src/qcow2/check.ts';
import { Qcow2Image } from '../../../src/qcow2/image.ts';
import { SECRETS } from './corpus.ts';
import { MeteredHost, OutOfBudget } from './metered-host.ts';

const BUDGET = { requests: 150_000, bytes: 512 * 1024 * 1024 };
/** Of a disk that claims to be huge, the start is looked at. */
const MAX_VIEW = 512 * 1024;

export interface Judgement {
  /** What went wrong, by the work under way; empty if nothing did. */
  readonly findings: readonly string[];
  readonly outcome: 'refused' | 'read' | 'commit refused' | 'committed';
}

type Files = ReadonlyMap<string, Uint8Array>;

/** A passphrase that would cost minutes is none of what is tried here. */
const MAX_ITERATIONS = 100_000;

const codecs: Codecs = {
  ...nodeCodecs,
  async loadCrypto() {
    return {
      ...nodeCrypto,
      async pbkdf2(name, password, salt, iterations, length) {
        if (iterations > MAX_ITERATIONS) throw new ImageError('unsupported', 'slow passphrase');
        return nodeCrypto.pbkdf2(name, password, salt, iterations, length);
      },
    };
  },
};

class Judge {
  readonly host = new MeteredHost(BUDGET, { codecs });
  readonly findings: string[] = [];
  readonly #files: Files;
  readonly #top: string;
  /** With the keys, where there are any: for what needs data. */
  readonly #chain: ChainTarget;
  /** Before anything was written. */
  readonly #corruptions = new Map<string, number>();

  constructor(files: Files, top: string, keyed?: Description) {
    this.#files = files;
    this.#top = top;
    this.#chain = keyed ?? top;
    for (const [name, bytes] of files) this.host.addFile(name, bytes);
  }

  /** Runs one piece of work; undefined where it was refused. */
  async attempt<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    this.host.reset();
    try {
      return await work();
    } catch (error) {
      const cause = outOfBudget(error);
      if (cause !== undefined) this.findings.push(`${what}: hangs: ${cause.message}`);
      else if (!(error instanceof ImageError)) {
        this.findings.push(`${what}: ${error instanceof Error ? error.stack : String(error)}`);
      }
      return undefined;
    }
  }

  async reading<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    const result = await this.attempt(what, work);
    if (this.host.writes > 0) this.findings.push(`${what}: writes`);
    return result;
  }

  async read(): Promise<boolean> {
    const { host } = this;
    const top = this.#top;
    await this.reading('info', async () => {
      await using chain = await openChain(top, { host, single: true, describe: true });
      const described = await describeImage(chain.at(0));
      infoText(described);
      qemuJson(described);
    });
    for (const name of this.#files.keys()) {
      const checked = await this.reading(`check ${name}`, () => this.check(name));
      if (checked !== undefined) this.#corruptions.set(name, checked.corruptions);
    }
    const mapped = await this.reading('map', async () => {
      await using chain = await openChain(top, { host, locked: true });
      let count = 0;
      for await (const _ of chain.status()) if (++count > 100_000) break;
      return count;
    });
    await this.reading('chain', () => surveyChain(top, { host, cells: () => 60 }));
    await this.reading('compare', async () => {
      await using chain = await this.open();
      if (chain.size > MAX_VIEW) return;
      await using other = await this.open();
      const { result } = await compareChains(chain, other, { strict: true });
      if (result !== 'identical') this.findings.push(`compare: differs from itself: ${result}`);
    });
    return mapped !== undefined;
  }

  async check(name: string): Promise<{ corruptions: number; leaks: number } | undefined> {
    const { host } = this;
    await using chain = await openChain(name, {
      host,
      single: true,
      describe: true,
      checking: true,
    });
    if (!(chain.top instanceof Qcow2Image)) return undefined;
    return await checkImage(chain.top, () => undefined);
  }

  open(): ReturnType<typeof openChain> {
    return openChain(this.#chain, { host: this.host, secrets: SECRETS });
  }

  async view(): Promise<Uint8Array> {
    await using chain = await this.open();
    const bytes = new Uint8Array(Math.min(chain.size, MAX_VIEW));
    await chain.read(0, bytes);
    return bytes;
  }

  async commit(): Promise<Judgement['outcome']> {
    const before = await this.reading('view', () => this.view());
    const dry = await this.reading('dry run', () => this.#commit(true));
    const done = await this.attempt('commit', () => this.#commit(false));
    const wrote = this.host.writes > 0;
    if (done === undefined) {
      if (wrote) await this.#keepsView('a commit that failed', before);
      return 'commit refused';
    }
    if (dry !== undefined && dry.plan.refusals.length > 0) {
      this.findings.push(`commit: goes where the dry run is refused: ${dry.plan.refusals[0]}`);
    }
    await this.#keepsView('a commit', before);
    for (const name of this.#written(done.plan)) {
      const result = await this.reading(`check after commit ${name}`, () => this.check(name));
      // What was wrong may stay where it does no harm: a snapshot's entry without its disk's size,
      // or what a top that was emptied does not use any more.
      const before = this.#corruptions.get(name) ?? 0;
      if (result === undefined || result.corruptions <= before) continue;
      this.findings.push(
        `commit: leaves ${result.corruptions} corruptions in ${name}, not ${before}`,
      );
    }
    return 'committed';
  }

  #commit(dryRun: boolean): ReturnType<typeof commit> {
    return commit(this.#chain, { host: this.host, secrets: SECRETS, dryRun });
  }

  /** The layer that received, and the one that was emptied. */
  #written({ top, base, baseFormat }: { top: string; base: string; baseFormat: string }): string[] {
    return baseFormat === 'qcow2' ? [top, base] : [top];
  }

  async #keepsView(what: string, before: Uint8Array | undefined): Promise<void> {
    if (before === undefined) return;
    const after = await this.reading(`view after ${what}`, () => this.view());
    if (after === undefined) this.findings.push(`${what} takes the view away`);
    else if (Buffer.compare(before, after) !== 0) this.findings.push(`${what} changes the view`);
  }
}

function outOfBudget(error: unknown): OutOfBudget | undefined {
  for (let each = error; each instanceof Error; each = each.cause) {
    if (each instanceof OutOfBudget) return each;
  }
  return undefined;
}

/** `keyed`: the chain with the names of its keys, where layers are encrypted. */
export async function judge(files: Files, top: string, keyed?: Description): Promise<Judgement> {
  const one = new Judge(files, top, keyed);
  const opens = await one.read();
  const outcome = opens ? await one.commit() : 'refused';
  return { findings: one.findings, outcome };
}
