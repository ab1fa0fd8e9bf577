// qimg-ts compare: whether two images show the guest the same. Exits 0: identical, 1: different or
// wrong usage, 2: could not open, 3: could not read a map, 4: could not read data.

import type { Chain } from '../chain/chain.ts';
import { type Comparison, compareChains } from '../chain/compare.ts';
import { CompareError } from '../chain/compare-pieces.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError, strerror } from '../errors.ts';
import { createNodeHost } from '../io/node-host.ts';
import { withNbd } from '../nbd/node-host.ts';
import { KIB } from '../units.ts';
import type { Reader } from './command.ts';
import { openNamed, warner } from './open-named.ts';
import { CACHE_MODES, Exit, namedImage, newCommand, parseVerb, toCacheMode } from './options.ts';
import { type ProgramContext, reportError } from './program.ts';
import { objects, readSecrets } from './secrets.ts';
import { StepProgress } from './step-progress.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';

/** Small tables are there sooner than the thread pool is; data is read several pieces at once. */
const machine = withNbd(createNodeHost({ waits: 4 * KIB }));

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly aFormat?: string;
  readonly bFormat?: string;
  readonly cache: string;
  readonly progress?: boolean;
  readonly quiet?: boolean;
  readonly strict?: boolean;
  readonly forceShare?: boolean;
}

const DIFFERENT = 1;
const NOT_OPENED = 2;
const STATUS_FAILED = 3;
const READ_FAILED = 4;

export async function runCompare(
  argv: readonly string[],
  program: ProgramContext,
): Promise<number> {
  const command = newCommand(program, 'compare', 'FILENAME1 FILENAME2')
    .description('Tell whether two images show the same data. Exits 0 if they do, 1 if not.')
    .option('-f, --a-format <fmt>', 'format of the first image; without it, probed')
    .option('-F, --b-format <fmt>', 'format of the second image; without it, probed')
    .option('-T, --cache <mode>', `cache mode: ${CACHE_MODES.join(', ')}`, 'writeback')
    .option('-p, --progress', 'show progress')
    .option('-q, --quiet', 'print errors only')
    .option('-s, --strict', 'sizes, and what is allocated, must be the same too')
    .option('-U, --force-share', 'open the images although another process writes to them')
    .option(
      '--object <object>',
      'define an object (secret, tls-creds-x509)',
      objectsOrExit(program),
    )
    .option('--image-opts', 'each FILENAME is a list of options');
  const { flags, operands } = parseVerb<Flags>(withTrust(command), argv, program);
  let secrets: Secrets;
  try {
    secrets = await readSecrets(flags.object);
  } catch (error) {
    reportError(error, program);
    return NOT_OPENED;
  }
  const [first, second] = operands;
  if (first === undefined || second === undefined || operands.length > 2) {
    return program.usageError('Expecting two image file names');
  }
  const progress = new StepProgress(program, flags.progress === true && flags.quiet !== true, 2);
  const onShow = (): void => progress.showNext();
  process.on('SIGUSR1', onShow);
  try {
    return await openAndCompare([first, second], flags, secrets, progress, program);
  } finally {
    process.off('SIGUSR1', onShow);
    progress.end();
  }
}

/** A wrong object counts as an image that can't be opened. */
function objectsOrExit(program: ProgramContext): Reader {
  const read = (value: string, before: unknown): unknown => {
    try {
      return objects.read(value, before);
    } catch (error) {
      reportError(error, program);
      throw new Exit(NOT_OPENED);
    }
  };
  return { ...objects, read };
}

async function openAndCompare(
  names: readonly [string, string],
  flags: Flags,
  secrets: Secrets,
  progress: StepProgress,
  program: ProgramContext,
): Promise<number> {
  const chains: Chain[] = [];
  try {
    const [a, b] = [
      await open(names[0], flags.aFormat, flags, secrets, chains, program),
      await open(names[1], flags.bFormat, flags, secrets, chains, program),
    ];
    return await compare([a, b], names, flags, progress, program);
  } catch (error) {
    reportError(error, program);
    return NOT_OPENED;
  } finally {
    for (const chain of chains) await chain.close();
  }
}

async function open(
  name: string,
  format: string | undefined,
  flags: Flags,
  secrets: Secrets,
  opened: Chain[],
  program: ProgramContext,
): Promise<Chain> {
  if (!CACHE_MODES.includes(flags.cache)) {
    throw new ImageError('invalid', `Invalid source cache option: ${flags.cache}`);
  }
  const { imageOpts = false, forceShare = false } = flags;
  const named = namedImage(name, { imageOpts, ...(format !== undefined && { format }) }, program);
  const cache = toCacheMode(flags.cache);
  const chain = await openNamed(named, {
    host: trusted(machine, flags, program),
    forceShare,
    cache,
    backing: true,
    secrets,
    onWarning: warner(program),
  });
  opened.push(chain);
  return chain;
}

async function compare(
  [a, b]: readonly [Chain, Chain],
  names: readonly [string, string],
  flags: Flags,
  progress: StepProgress,
  program: ProgramContext,
): Promise<number> {
  const say = (text: string): void => {
    if (!flags.quiet) program.out(`${text}\n`);
  };
  progress.start();
  try {
    const comparison = await compareChains(a, b, {
      strict: flags.strict === true,
      onProgress: (done, total) => progress.reached(done, total),
      onSizeMismatch: () => say('Warning: Image size mismatch!'),
    });
    say(wordsFor(comparison));
    return comparison.result === 'identical' ? 0 : DIFFERENT;
  } catch (error) {
    if (!(error instanceof CompareError)) throw error;
    return reportFailure(error, names[error.side], program);
  }
}

function wordsFor(comparison: Comparison): string {
  switch (comparison.result) {
    case 'identical':
      return 'Images are identical.';
    case 'content':
      return `Content mismatch at offset ${comparison.offset}!`;
    case 'size':
      return 'Strict mode: Image size mismatch!';
    case 'status':
      return `Strict mode: Offset ${comparison.offset} block status mismatch!`;
    default:
      return comparison satisfies never;
  }
}

/** QEMU's words; what exactly was found follows as a hint. */
function reportFailure(error: CompareError, name: string, program: ProgramContext): number {
  const { doing, offset, errno = 'EIO' } = error;
  const message =
    doing === 'status'
      ? `Sector allocation test failed for ${name}`
      : `Error while reading offset ${offset} of ${name}: ${strerror(errno)}`;
  const hint = error.message;
  reportError(new ImageError(error.code, message, { cause: error, hint }), program);
  return doing === 'status' ? STATUS_FAILED : READ_FAILED;
}
