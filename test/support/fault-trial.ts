// Tries an operation on a machine that fails at one call of a kind in one file, once or for ever: a clear
// error or none, sound images, the view as it was, and a rerun that ends as it should.

import { hintFor } from '../../src/cli/hints.ts';
import { ImageError, machineWords } from '../../src/errors.ts';
import { filesIn, type Random, randomFrom } from './crash.ts';
import { CODECS, type CrashOperation, type CrashScene, ensure } from './crash-operations/scene.ts';
import { expectSoundFiles } from './crash-trial.ts';
import { FAULTS, type Fault, type FaultKind, FaultyHost, NEED_ROOM } from './faulty-host.ts';

export interface FaultTrialOptions {
  readonly seed: number;
  /** Calls of one kind in one file that fail, the first and the last among them. Default: all. */
  readonly most?: number;
  /** Ways in which each of them fails, in turn. Default: each in all ways. */
  readonly ways?: number;
}

export interface FaultTally {
  /** Calls of each kind in each file, as `KIND FILE`. */
  readonly calls: ReadonlyMap<string, number>;
  /** Runs in which a call failed. */
  readonly faults: number;
}

type Way = Pick<Fault, 'errno' | 'forever'>;

const EIO: readonly Way[] = [
  { errno: 'EIO', forever: false },
  { errno: 'EIO', forever: true },
];
/** What the machine tells when it was interrupted too often. */
const INTERRUPTED: readonly Way[] = [{ errno: 'EINTR', forever: true }];
const FULL: readonly Way[] = [
  { errno: 'ENOSPC', forever: false },
  { errno: 'ENOSPC', forever: true },
];

function waysOf(kind: FaultKind): readonly Way[] {
  return NEED_ROOM.has(kind) ? [...EIO, ...FULL, ...INTERRUPTED] : [...EIO, ...INTERRUPTED];
}

/** Throws for the first fault after which a promise does not hold. */
export async function tryFaults(
  operation: CrashOperation,
  { seed, most = Number.POSITIVE_INFINITY, ways }: FaultTrialOptions,
): Promise<FaultTally> {
  const random = randomFrom(seed);
  const scene = await operation.prepare(random);
  const { calls } = await runWith(scene, undefined);
  let faults = 0;
  for (const [key, count] of calls) {
    const [kind, filename] = key.split(' ') as [FaultKind, string];
    for (const n of someOf(count, most, random)) {
      const all = waysOf(kind);
      const first = ways === undefined ? 0 : random(all.length);
      for (let i = 0; i < (ways ?? all.length); i++) {
        const way = all[(first + i) % all.length] ?? { errno: 'EIO', forever: false };
        if (await tryFault(operation.name, scene, { kind, filename, n, ...way })) faults++;
      }
    }
  }
  return { calls, faults };
}

/** Numbers of calls: the first, the last, others. */
function someOf(count: number, most: number, random: Random): readonly number[] {
  if (count <= most) return Array.from({ length: count }, (_, n) => n);
  const picked = new Set(most === 1 ? [random(count)] : [0, count - 1]);
  while (picked.size < most) picked.add(random(count));
  return [...picked];
}

async function runWith(scene: CrashScene, fault: Fault | undefined) {
  const host = new FaultyHost({ ...CODECS, clones: scene.clones ?? false });
  for (const [name, bytes] of scene.files) host.addFile(name, bytes);
  host.arm(fault);
  const outcome = await scene.run(host).then(
    () => undefined,
    (error: unknown) => error,
  );
  const calls = new Map(host.calls);
  const failedIn = [...host.failedIn];
  host.arm(undefined);
  return { host, outcome, calls, failedIn };
}

/** False where there was no such call: what ran side by side can change their number. */
async function tryFault(name: string, scene: CrashScene, fault: Fault): Promise<boolean> {
  const { host, outcome, failedIn } = await runWith(scene, fault);
  const images = () => filesIn(host, scene.files.keys());
  try {
    if (outcome !== undefined)
      expectClear(outcome, fault.kind, failedIn, scene.caller === 'program');
    if (!scene.corrupt) await expectSoundFiles(images());
    await scene.judge(host, Number.POSITIVE_INFINITY);
    await scene.finish(host);
    await expectSoundFiles(images());
  } catch (error) {
    const { kind, filename, n, errno, forever } = fault;
    const when = forever ? 'from then on' : 'once';
    const where = `${name}: ${kind} number ${n} of ${filename} fails ${when} with ${errno}`;
    const said = outcome && firstOf(outcome);
    const told = said instanceof ImageError ? `${said.message}\n${said.hint}` : said;
    throw new Error(`${where}: ${error}\nthe command said: ${told}`, { cause: error });
  }
  return failedIn.length > 0;
}

const STATE =
  /view through .* unchanged|Nothing was changed|The commit itself is complete|as (it|they) (was|were)|shows what it did|what was there is unchanged|could be read of the image still can/;
const ADVICE = /the same command|remove them/;
const AT_OFFSET = new Set<FaultKind>(['read', 'write', 'zero', 'copy', 'clone', 'resize']);

/** What closing said in addition is of no interest. */
function firstOf(outcome: unknown): unknown {
  const { suppressed } = outcome as { suppressed?: unknown };
  return suppressed === undefined ? outcome : firstOf(suppressed);
}

/** File, what was being done, where; to a user also what state things are in, and what to do. */
function expectClear(
  outcome: unknown,
  kind: FaultKind,
  failedIn: readonly string[],
  isProgram: boolean,
): void {
  const error = firstOf(outcome);
  ensure(error instanceof ImageError, `not an ImageError: ${error}`);
  // The command's last word where the library leaves it to its caller.
  const hint = error.hint ?? hintFor(error) ?? '';
  const text = `${isProgram ? machineWords(error) : ''}${error.message}\n${hint}`;
  const at = AT_OFFSET.has(kind) ? ' at offset ' : '';
  const words = failedIn.map((filename) => `${FAULTS[kind]} '${filename}'${at}`);
  ensure(
    words.some((each) => text.includes(each)),
    `it does not say: ${words}`,
  );
  if (isProgram) return;
  ensure(STATE.test(text), 'it does not say what state things are in');
  ensure(ADVICE.test(text), 'it does not say what to do');
}
