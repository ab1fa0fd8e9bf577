// qimg-ts rebase: options in, words out. What it does is in commit/rebase.ts.

import type { Secrets } from '../chain/secrets.ts';
import { rebase } from '../commit/rebase.ts';
import type { RebaseOptions, RebaseResult } from '../commit/rebase-options.ts';
import { ImageError } from '../errors.ts';
import { nodeHost } from '../nbd/node-host.ts';
import type { Command } from './command.ts';
import { checkNotEmpty, warner } from './open-named.ts';
import {
  CACHE_MODES,
  type NamedImage,
  namedImage,
  newCommand,
  parsed,
  parseVerb,
  targetOf,
  toCacheMode,
} from './options.ts';
import type { ProgramContext } from './program.ts';
import { warnIfTakenForRaw } from './raw-warning.ts';
import { describeRebase, RebaseProgress } from './rebase-output.ts';
import { objects, readSecrets } from './secrets.ts';
import { sizeArgument } from './size.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';
import { Stopped, untilStopped } from './until-stopped.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly quiet?: boolean;
  readonly format?: string;
  readonly backing?: string;
  readonly backingFormat?: string;
  readonly cache: string;
  readonly sourceCache: string;
  readonly progress?: boolean;
  readonly unsafe?: boolean;
  readonly forceShare?: boolean;
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly sparseSize?: number;
}

function command(program: ProgramContext): Command {
  const modes = CACHE_MODES.join(', ');
  const rebasing = newCommand(program, 'rebase', 'FILENAME')
    .description(
      'Give FILENAME another backing file, or none. It shows the same afterwards: what differs is ' +
        'copied into it first.',
    )
    .option('-b, --backing <name>', "the new backing file, seen from FILENAME; '' for none")
    .option('-F, --backing-format <fmt>', 'its format')
    .option('-u, --unsafe', 'change the name alone; without -b: no backing file')
    .option('-f, --format <fmt>', 'format of FILENAME; without it, probed')
    .option('-p, --progress', 'show the progress')
    .option('-q, --quiet', 'print errors only')
    .option('-t, --cache <mode>', `cache mode: ${modes}`, 'writeback')
    .option('-T, --source-cache <mode>', 'the same for the new backing file', 'writeback')
    .option('-U, --force-share', 'open the new backing file although another process writes to it')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects)
    .option('--image-opts', 'FILENAME is a list of options: driver=qcow2,file.filename=NAME')
    .option('--force', 'go on in spite of a name that leads nowhere, too little space, snapshots')
    .option('--dry-run', 'show what would be copied; write nothing');
  if (program.asQemu) return rebasing;
  return rebasing.option(
    '-S, --sparse-size <size>',
    'runs of zeros of that many bytes become zero clusters; 0: none do (default: one cluster)',
    parsed((text) => sparseSizeIn(text, program)),
  );
}

function sparseSizeIn(text: string, program: ProgramContext): number {
  const size = sizeArgument(text, 'sparse size', program);
  if (size % 512n === 0n && size <= MAX_SPARSE) return Number(size);
  throw new ImageError(
    'invalid',
    'Invalid buffer size for sparse output specified. ' +
      `Valid sizes are multiples of 512 up to ${MAX_SPARSE}. ` +
      'Select 0 to disable zero detection (fully allocates output).',
  );
}

/** As for the same option of `qemu-img convert`. */
const MAX_SPARSE = 2n ** 31n - 512n;

/** Returns the exit code. Errors are thrown for the caller to report. */
export async function runRebase(argv: readonly string[], program: ProgramContext): Promise<number> {
  const { flags, operands } = parseVerb<Flags>(withTrust(command(program)), argv, program);
  const secrets = await readSecrets(flags.object);
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  if (!flags.unsafe && flags.backing === undefined) {
    return program.usageError('Must specify backing file (-b) or use unsafe mode (-u)');
  }
  const progress = new RebaseProgress(program, flags.progress === true && flags.quiet !== true);
  progress.start();
  try {
    const code = await rebaseOperand(operand, flags, secrets, progress, program);
    return code;
  } catch (error) {
    progress.failed(error);
    throw error;
  } finally {
    progress.end();
  }
}

async function rebaseOperand(
  operand: string,
  flags: Flags,
  secrets: Secrets,
  progress: RebaseProgress,
  program: ProgramContext,
): Promise<number> {
  for (const [mode, kind] of [
    [flags.cache, 'cache'],
    [flags.sourceCache, 'source cache'],
  ] as const) {
    if (CACHE_MODES.includes(mode)) continue;
    throw new ImageError('invalid', `Invalid ${kind} option: ${mode}`);
  }
  const named = namedImage(operand, { ...flags, forceShare: false }, program);
  checkNotEmpty(named);
  let started = false;
  const options = {
    ...toOptions(flags, named, secrets, program),
    onStart: () => {
      started = true;
    },
    onProgress: progress.onProgress,
    onSteps: progress.onSteps,
  };
  const run = (signal: AbortSignal) => rebase(targetOf(named), { ...options, signal });
  const result = await untilStopped(run, () => progress.showNext());
  if (result instanceof Stopped) {
    const message = stoppedMessage(result, started, named.label);
    program.err(`${program.name}: ${message}\n`);
    return result.exitCode;
  }
  progress.done();
  return result.dryRun ? reportDryRun(result, program) : 0;
}

function toOptions(
  flags: Flags,
  { format, label }: NamedImage,
  secrets: Secrets,
  program: ProgramContext,
): RebaseOptions {
  const { backing, backingFormat } = flags;
  return {
    host: trusted(nodeHost, flags, program),
    backing,
    ...(backingFormat !== undefined && { backingFormat }),
    ...(format !== undefined && { format }),
    ...(flags.sparseSize !== undefined && { sparseSize: flags.sparseSize }),
    label,
    secrets,
    unsafe: flags.unsafe === true,
    cache: toCacheMode(flags.cache),
    sourceCache: toCacheMode(flags.sourceCache),
    forceShare: flags.forceShare === true,
    force: flags.force === true,
    skipAdvice: program.asQemu && program.env['QIMG_STRICT'] !== '1',
    dryRun: flags.dryRun === true,
    onWarning: warner(program),
    onOpened(image) {
      if (program.asQemu) warnIfTakenForRaw(image, program);
    },
  };
}

function reportDryRun(result: RebaseResult, program: ProgramContext): number {
  program.out(describeRebase(result));
  return result.refusals.length > 0 ? 1 : 0;
}

function stoppedMessage({ by }: Stopped, started: boolean, filename: string): string {
  if (!started) return `Stopped by ${by}; nothing was written.`;
  return (
    `Stopped by ${by}. '${filename}' shows what it did, over its old backing file; ` +
    'running the same command again continues.'
  );
}
