// Command lines through the real qemu-img and through ours under its name, side by side: each in a
// directory of its own, and what is left there compared too.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BitmapText, bitmapsIn } from './bitmaps.ts';
import { asQemu } from './cli.ts';
import { type Outcome, run } from './qemu.ts';
import { makeTemp } from './temp.ts';

const QCOW2 = 0x5146_49fb;
/** Command lines at a time: a few more than processors would only make each one slower. */
const POOL = 3;

export type Prepare = (dir: string) => void | Promise<void>;

export interface Compared {
  readonly theirs: Outcome;
  readonly mine: Outcome;
  readonly theirDir: string;
  readonly myDir: string;
}

export interface SideBySide {
  /** One command line in two fresh copies of the template, which stay until the file is done. */
  both(args: readonly string[], prepare?: Prepare): Promise<Compared>;
  /** A test for each line: the same words, the same exit code, the same images. */
  testLines(text: string): void;
  /** A test for each line that what is printed differs, which is as it should be for a reason. */
  testDifferences(lines: readonly (readonly [line: string, reason: string])[]): void;
}

/** To be called at the top of a test file. `fill` puts files into the template. */
export function sideBySide(fill: Prepare): SideBySide {
  const ours = asQemu();
  const { dir, cleanup } = makeTemp();
  const template = join(dir, 'template');
  const pool = new Pool();
  let count = 0;
  beforeAll(async () => {
    mkdirSync(template);
    await fill(template);
    pool.start();
  });
  afterAll(() => {
    ours.remove();
    cleanup();
  });

  const both: SideBySide['both'] = async (args, prepare = () => undefined) => {
    const place = join(dir, String(count++));
    const [theirDir, myDir] = [join(place, 'theirs'), join(place, 'mine')];
    for (const each of [theirDir, myDir]) {
      cpSync(template, each, { recursive: true });
      await prepare(each);
    }
    const [theirs, mine] = await Promise.all([
      run('qemu-img', args, { cwd: theirDir }),
      ours.run(args, myDir),
    ]);
    return { theirs, mine, theirDir, myDir };
  };

  return {
    both,
    testLines(text) {
      const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
      const results = lines.map((line) =>
        pool.add(async () => {
          const compared = await both(wordsOf(line));
          return { compared, images: await differingImages(compared, template) };
        }),
      );
      test.each(lines.map((line, i) => [line, i] as const))('qemu-img %s', async (_line, i) => {
        const result = await results[i];
        expect(steady(result?.compared.mine)).toEqual(steady(result?.compared.theirs));
        expect(result?.images).toEqual([]);
      });
    },
    testDifferences(lines) {
      const results = lines.map(([line]) => pool.add(() => both(wordsOf(line))));
      test.each(lines.map(([line, reason], i) => [line, reason, i] as const))(
        'qemu-img %s: %s',
        async (_line, _reason, i) => {
          const { theirs, mine } = await (results[i] ?? Promise.reject(new Error('no result')));
          expect(steady(mine)).not.toEqual(steady(theirs));
        },
      );
    },
  };
}

/** Runs what it is given, a few at a time, once it is started. */
class Pool {
  readonly #waiting: (() => Promise<void>)[] = [];

  add<T>(work: () => Promise<T>): Promise<T> {
    const result = new Promise<T>((resolve, reject) => {
      this.#waiting.push(() => work().then(resolve, reject));
    });
    // Whoever asks for it hears of a failure; until then it is not "unhandled".
    result.catch(() => undefined);
    return result;
  }

  start(): void {
    for (let i = 0; i < POOL; i++) void this.#run();
  }

  async #run(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      await next();
    }
  }
}

/** A line as a shell would take it apart; single quotes only. */
export function wordsOf(line: string): readonly string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
}

/** Times of progress steps and disk usage in blocks are not fixed in QEMU either. */
export function steady(outcome: Outcome | undefined): Outcome | undefined {
  if (outcome === undefined) return undefined;
  const stdout = outcome.stdout
    .replace(/( {4}\(\d+\.\d\d\/100%\)\r)+/g, '<progress>')
    .replace(/disk size: .*/g, 'disk size')
    .replace(/"actual-size": \d+/g, '"actual-size"');
  return { code: outcome.code, stdout, stderr: outcome.stderr };
}

/** What both left behind, one line for each file that is not the same. */
async function differingImages(
  { theirDir, myDir }: Compared,
  template: string,
): Promise<readonly string[]> {
  const names = new Set([...readdirSync(theirDir), ...readdirSync(myDir)]);
  const found: string[] = [];
  for (const name of names) {
    const [theirs, mine] = [join(theirDir, name), join(myDir, name)];
    if (!existsSync(theirs) || !existsSync(mine)) {
      found.push(`${name}: only ${existsSync(mine) ? 'we have' : 'they have'} it`);
    } else if (statSync(mine).isFile() && !(await unchanged(name, theirs, mine, template))) {
      const why = await imageDifference(theirs, mine);
      if (why !== undefined) found.push(`${name}: ${why}`);
    }
  }
  return found;
}

async function unchanged(
  name: string,
  theirs: string,
  mine: string,
  template: string,
): Promise<boolean> {
  const old = join(template, name);
  if (!existsSync(old)) return false;
  const bytes = readFileSync(old);
  return [theirs, mine].every((file) => readFileSync(file).equals(bytes));
}

/** Described alike, sound alike, with as many clusters in use, and the same for the guest. */
export async function imageDifference(theirs: string, mine: string): Promise<string | undefined> {
  const [their, my] = [await describe(theirs), await describe(mine)];
  if (their !== my) return `described as ${my}, not as ${their}`;
  if (!isDeepStrictEqual(bitmapsOf(theirs), bitmapsOf(mine))) return 'other bits in its bitmaps';
  const compared = await run('qemu-img', ['compare', mine, theirs]);
  // Images over a missing backing file can be described, not compared.
  const unbacked = compared.stderr.includes('Could not open backing file');
  return compared.code === 0 || unbacked ? undefined : compared.stdout + compared.stderr;
}

function bitmapsOf(file: string): readonly BitmapText[] {
  const bytes = readFileSync(file);
  return bytes.length >= 512 && bytes.readUInt32BE(0) === QCOW2 ? bitmapsIn(bytes) : [];
}

/** Where clusters lie, and where the file ends, is each one's own affair. */
const OWN_AFFAIR = new Set([
  'filename',
  'full-backing-filename',
  'actual-size',
  'image-end-offset',
  'fragmented-clusters',
  // When a snapshot was taken.
  'date-sec',
  'date-nsec',
]);

async function describe(file: string): Promise<string> {
  const outputs = [
    await run('qemu-img', ['info', '--output=json', file]),
    await run('qemu-img', ['check', '--output=json', file]),
  ];
  return outputs
    .map(({ stdout }) => (stdout === '' ? '' : JSON.stringify(JSON.parse(stdout), without)))
    .join('\n');
}

function without(key: string, value: unknown): unknown {
  return OWN_AFFAIR.has(key) ? undefined : value;
}
