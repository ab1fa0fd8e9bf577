// qimg-ts commit: options in, words out. What it does is in commit/.

import type { Secrets } from '../chain/secrets.ts';
import { commit } from '../commit/commit.ts';
import type { CommitOptions, CommitPlan, CommitResult } from '../commit/options.ts';
import { ImageError } from '../errors.ts';
import { nodeHost, patientHost } from '../nbd/node-host.ts';
import type { Command } from './command.ts';
import { type CommitReport, JsonReport, TextReport } from './commit-report.ts';
import { checkNotEmpty, openNamed } from './open-named.ts';
import {
  CACHE_MODES,
  collect,
  type NamedImage,
  namedImage,
  newCommand,
  parsed,
  parseVerb,
  targetOf,
  toCacheMode,
} from './options.ts';
import { describePlan, planToJson } from './plan-output.ts';
import type { ProgramContext } from './program.ts';
import { ProgressLine } from './progress.ts';
import { ProgressBar } from './progress-bar.ts';
import { warnIfTakenForRaw } from './raw-warning.ts';
import { objects, readSecrets } from './secrets.ts';
import { sizeArgument } from './size.ts';
import { stdoutTerminal } from './terminal.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';
import { Stopped, untilStopped } from './until-stopped.ts';
import { keepYoungHeapSmall } from './young-heap.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly quiet?: boolean;
  readonly format?: string;
  readonly cache: string;
  readonly base?: string;
  readonly rateLimit?: number;
  readonly drop?: boolean;
  readonly progress?: boolean;
  readonly top?: string;
  readonly overlay?: readonly string[];
  readonly compress?: boolean;
  readonly relink?: boolean;
  readonly delete?: boolean;
  readonly reclaim?: boolean;
  readonly skipIdentical?: boolean;
  readonly bitmaps?: boolean;
  readonly force?: boolean;
  readonly rebaseSiblings?: boolean;
  readonly search?: readonly string[];
  readonly dryRun?: boolean;
  readonly output?: string;
}

function command(program: ProgramContext): Command {
  const rate = parsed((text) => Number(sizeArgument(text, 'rate limit', program)));
  return newCommand(program, 'commit', 'FILENAME')
    .description('Merge the layers of a backing chain, from FILENAME down, into its base.')
    .option('-b, --base <name>', 'merge into this layer of the chain (implies -d)')
    .option('-d, --drop', 'do not empty FILENAME afterwards')
    .option('-f, --format <fmt>', 'format of FILENAME; without it, probed')
    .option('-p, --progress', 'show the progress')
    .option('-q, --quiet', 'print errors only')
    .option('-r, --rate-limit <rate>', 'bytes per second, with suffix k, M, G, T, P or E', rate)
    .option('-t, --cache <mode>', `cache mode: ${CACHE_MODES.join(', ')}`, 'writeback')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects)
    .option('--image-opts', 'FILENAME is a list of options: driver=qcow2,file.filename=NAME')
    .option('--top <name>', 'merge from this layer down; its overlay is relinked to the base')
    .option('--overlay <file>', 'with --top: relink this image too (repeatable)', collect)
    .option('--relink', 'with -b: make FILENAME name the base as its backing file')
    .option('--delete', 'with --top or --relink: remove the files that nobody needs any more')
    .option('--compress', 'store clusters compressed in the base, where that makes them smaller')
    .option('--reclaim', 'free space in the merged layers as soon as the base holds a part')
    .option('--skip-identical', 'compare first; write nothing that the base holds already')
    .option('--bitmaps', 'merge persistent bitmaps that record into those of the base')
    .option('--force', 'commit in spite of other overlays of the base or too little space')
    .option('--rebase-siblings', 'first copy into other overlays what they would lose')
    .option('--search <dir>', 'look for other overlays here too (repeatable)', collect)
    .option('--dry-run', 'show what would be done; write nothing')
    .option('--output <format>', 'human (the default) or json: one object for each line');
}

/** Returns the exit code. Errors are thrown for the caller to report. */
export async function runCommit(argv: readonly string[], program: ProgramContext): Promise<number> {
  const { flags, operands } = parseVerb<Flags>(withTrust(command(program)), argv, program);
  const secrets = await readSecrets(flags.object);
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  if (flags.output !== undefined && flags.output !== 'human' && flags.output !== 'json') {
    throw new ImageError('invalid', '--output must be used with human or json as argument.');
  }
  const report = newReport(flags, program);
  try {
    return await commitOperand(operand, flags, secrets, report, program);
  } catch (error) {
    report.failed(error);
    throw error;
  }
}

async function commitOperand(
  operand: string,
  flags: Flags,
  secrets: Secrets,
  report: CommitReport,
  program: ProgramContext,
): Promise<number> {
  if (!CACHE_MODES.includes(flags.cache)) {
    throw new ImageError('invalid', `Invalid cache option: ${flags.cache}`);
  }
  const named = namedImage(operand, flags, program);
  checkNotEmpty(named);
  await keepYoungHeapSmall();
  const options = { ...toOptions(flags, program, named.format), label: named.label, secrets };
  try {
    return await commitUntilDone(named, flags, options, report, program);
  } catch (error) {
    // Raw images have no backing file, so only those that can't be committed have to be looked at.
    const unbacked = error instanceof ImageError && /not have a backing file/.test(error.message);
    if (program.asQemu && unbacked) await warnOfRaw(named, secrets, program);
    throw error;
  }
}

function toOptions(
  flags: Flags,
  program: ProgramContext,
  format: string | undefined,
): CommitOptions {
  return {
    host: trusted(flags.dryRun ? patientHost : nodeHost, flags, program),
    cache: toCacheMode(flags.cache),
    ...(format !== undefined && { format }),
    ...(flags.base !== undefined && { base: flags.base }),
    ...(flags.top !== undefined && { top: flags.top }),
    overlays: flags.overlay ?? [],
    relink: flags.relink === true,
    delete: flags.delete === true,
    drop: flags.drop === true,
    compress: flags.compress === true,
    reclaim: flags.reclaim === true,
    skipIdentical: flags.skipIdentical === true,
    bitmaps: flags.bitmaps === true,
    force: flags.force === true,
    rebaseSiblings: flags.rebaseSiblings === true,
    skipAdvice: program.asQemu && program.env['QIMG_STRICT'] !== '1',
    search: flags.search ?? [],
    rateLimit: flags.rateLimit ?? 0,
    dryRun: flags.dryRun === true,
  };
}

async function warnOfRaw(
  named: NamedImage,
  secrets: Secrets,
  program: ProgramContext,
): Promise<void> {
  const chain = await openNamed(named, { forceShare: true, secrets });
  await chain.close();
  warnIfTakenForRaw(chain.at(0), program);
}

async function commitUntilDone(
  named: NamedImage,
  flags: Flags,
  options: CommitOptions,
  report: CommitReport,
  program: ProgramContext,
): Promise<number> {
  let plan: CommitPlan | undefined;
  const run = (signal: AbortSignal) =>
    commit(targetOf(named), {
      ...options,
      signal,
      onProgress: (now) => report.progress(now),
      onWarning: (message, advice) => report.warned(message, advice),
      onPlan: (made) => {
        plan = made;
        report.planned(made);
      },
    });
  const result = await untilStopped(run, () => report.showNext());
  if (result instanceof Stopped) {
    const message = stoppedMessage(result.by, plan, named.label);
    report.stopped(message);
    program.err(`${program.name}: ${message}\n`);
    return result.exitCode;
  }
  if (result.dryRun) return reportPlan(result, flags, program);
  report.done(result.plan);
  return 0;
}

function newReport(flags: Flags, program: ProgramContext): CommitReport {
  const quiet = flags.quiet === true;
  const now = () => nodeHost.now();
  if (flags.output === 'json' && !flags.dryRun) return new JsonReport(program, quiet, now);
  const shown = flags.progress === true && !quiet;
  const asBar = shown && !program.asQemu && stdoutTerminal(program.env).isTerminal;
  const columns = () => stdoutTerminal(program.env).columns;
  const progress = asBar
    ? new ProgressBar(program, columns, now)
    : new ProgressLine(program, shown);
  return new TextReport(program, quiet, progress);
}

function reportPlan({ plan }: CommitResult, flags: Flags, program: ProgramContext): number {
  program.out(flags.output === 'json' ? planToJson(plan) : describePlan(plan));
  return plan.refusals.length > 0 ? 1 : 0;
}

function stoppedMessage(
  signal: NodeJS.Signals,
  plan: CommitPlan | undefined,
  filename: string,
): string {
  if (plan === undefined) return `Stopped by ${signal}; nothing was written.`;
  return (
    `Stopped by ${signal}. '${plan.base}' is consistent, the view through ` +
    `'${filename}' is unchanged; running the same command again continues.`
  );
}
