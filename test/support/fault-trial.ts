// Tries a command on a machine that fails at the n-th call of a kind, n raised until there is no such
// call: a clear error or none, sound images, the view as it was, and a rerun that ends as it should.

import { ImageError } from '../../src/errors.ts';
import { filesIn, randomFrom } from './crash.ts';
import { CODECS, type CrashOperation, ensure } from './crash-operations/scene.ts';
import { expectSoundFiles } from './crash-trial.ts';
import { FAULTS, type Fault, type FaultKind, FaultyHost } from './faulty-host.ts';

/** Resolves to how many calls of that kind there were to fail. */
export async function tryFaults(
  operation: CrashOperation,
  kind: FaultKind,
  how: Pick<Fault, 'errno' | 'forever'>,
): Promise<number> {
  const scene = await operation.prepare(randomFrom(1));
  for (let n = 0; ; n++) {
    const host = new FaultyHost(CODECS);
    for (const [name, bytes] of scene.files) host.addFile(name, bytes);
    host.arm({ kind, n, ...how });
    const outcome = await scene.run(host).then(
      () => undefined,
      (error: unknown) => error,
    );
    const failedIn = [...host.failedIn];
    host.arm(undefined);
    const where = `${operation.name}, ${kind} number ${n} fails with ${how.errno}`;
    try {
      if (outcome !== undefined) expectClear(outcome, kind, failedIn);
      await expectSoundFiles(filesIn(host, scene.files.keys()));
      await scene.judge(host, Number.POSITIVE_INFINITY);
      await scene.finish(host);
      await expectSoundFiles(filesIn(host, scene.files.keys()));
    } catch (error) {
      const told = outcome instanceof ImageError ? `${outcome.message}\n${outcome.hint}` : outcome;
      throw new Error(`${where}: ${error}\nthe command said: ${told}`, { cause: error });
    }
    if (failedIn.length === 0) return n;
  }
}

const STATE = /view through .* unchanged|Nothing was changed|The commit itself is complete/;
const ADVICE = /the same command|remove them/;

/** File, what was being done, where, what state things are in, what to do. */
function expectClear(outcome: unknown, kind: FaultKind, failedIn: readonly string[]): void {
  ensure(outcome instanceof ImageError, `not an ImageError: ${outcome}`);
  const text = `${outcome.message}\n${outcome.hint ?? ''}`;
  const told = failedIn.map((name) => `${FAULTS[kind]} '${name}'`);
  ensure(
    told.some((words) => text.includes(words)),
    `it does not say: ${told}`,
  );
  const isAtOffset = ['read', 'write', 'zero', 'copy', 'resize'].includes(kind);
  ensure(!isAtOffset || /at offset \d+/.test(text), 'it does not say where');
  ensure(STATE.test(text), 'it does not say what state things are in');
  ensure(ADVICE.test(text), 'it does not say what to do');
}
