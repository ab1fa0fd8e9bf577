// qimg-ts resize: another size for the disk of an image. The last word is the size, whatever it looks
// like, so that "-1G" needs no "--" before it.

import type { Chain } from '../chain/chain.ts';
import { resizeTop } from '../chain/resize.ts';
import { ImageError } from '../errors.ts';
import { nodeHost } from '../nbd/node-host.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { Preallocation } from '../qcow2/preallocate.ts';
import { TOO_LARGE } from '../qcow2/resize-image.ts';
import { parseExactSize } from '../units.ts';
import { checkNotEmpty, openNamed, warner } from './open-named.ts';
import { namedImage, newCommand, parsed, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';
import { warnIfTakenForRaw } from './raw-warning.ts';
import { objects, readSecrets } from './secrets.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly format?: string;
  readonly quiet?: boolean;
  readonly preallocation?: Preallocation;
  readonly shrink?: boolean;
  readonly force?: boolean;
}

/** What is asked for; `sign` of a change, without one it is the new size itself. */
interface Wanted {
  readonly sign: '+' | '-' | '';
  readonly bytes: bigint;
}

export async function runResize(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'resize', 'FILENAME [+ | -]SIZE')
    .description('Make the disk of an image larger or smaller: to SIZE bytes, or by as many.')
    .option('-f, --format <fmt>', 'format of the image; without it, probed')
    .option(
      '--preallocation <mode>',
      'off, metadata, falloc or full: what the new area has from the start',
      parsed(preallocationOf),
    )
    .option('--shrink', 'let the disk become smaller: what lies past its new end is lost')
    .option('-q, --quiet', 'print errors only')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects)
    .option('--image-opts', 'FILENAME is a list of options');
  if (!program.asQemu) command.option('--force', 'try although the space may not be enough');
  const sizeWord = argv.at(-1);
  const isHelp = !program.asQemu && (sizeWord === '--help' || sizeWord === '-h');
  if (!isHelp && program.definitionOnly !== true && argv.length < 2) {
    return program.usageError('Not enough arguments');
  }
  const words = isHelp ? argv : argv.slice(0, -1);
  const { flags, operands } = parseVerb<Flags>(withTrust(command), words, program);
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting image file name and size');
  }
  const wanted = wantedIn(sizeWord ?? '', program);
  const named = namedImage(operand, flags, program);
  const secrets = await readSecrets(flags.object);
  checkNotEmpty(named);
  const host = trusted(nodeHost, flags, program);
  const chain = await openNamed(named, {
    host,
    forceShare: false,
    writable: true,
    backing: true,
    secrets,
    onWarning: warner(program),
  });
  try {
    warnIfTakenForRaw(chain.at(0), program);
    await resize(chain, wanted, flags, program);
  } catch (error) {
    // What closing could say in addition would hide the error that matters.
    await chain.close().catch(() => undefined);
    throw error;
  }
  await chain.close();
  if (!flags.quiet) program.out('Image resized.\n');
  return 0;
}

const PREALLOCATIONS: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

function preallocationOf(word: string): Preallocation {
  const mode = PREALLOCATIONS.find((each) => each === word);
  if (mode !== undefined) return mode;
  throw new ImageError('invalid', `Invalid preallocation mode '${word}'`, {
    hint: `Modes are: ${PREALLOCATIONS.join(', ')}.`,
  });
}

function wantedIn(word: string, program: ProgramContext): Wanted {
  const sign = word.startsWith('+') ? '+' : word.startsWith('-') ? '-' : '';
  const text = word.slice(sign.length);
  const bytes = parseExactSize(text);
  if (bytes === undefined) {
    throw new ImageError(
      'invalid',
      "Parameter 'size' expects a non-negative number below 2^64\n" +
        'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n' +
        'and exabytes, respectively.',
    );
  }
  if (bytes === 'too-large') {
    throw new ImageError('invalid', `Value '${text}' is out of range for parameter 'size'`);
  }
  if (program.asQemu && /0x[0-9a-f]+[kmgtp]$/i.test(text)) {
    program.err(
      `${program.name}: warning: ` +
        `Using a multiplier suffix on hex numbers is deprecated: ${text}\n`,
    );
  }
  return { sign, bytes };
}

async function resize(
  chain: Chain,
  wanted: Wanted,
  { preallocation = 'off', shrink = false, force = false }: Flags,
  program: ProgramContext,
): Promise<void> {
  const size = newSize(chain, wanted);
  const invalid = (message: string) => new ImageError('invalid', message);
  if (size <= 0n) throw invalid('New image size must be positive');
  const isLarger = size > BigInt(chain.size);
  if (!isLarger && preallocation !== 'off') {
    throw invalid('Preallocation can only be used for growing images');
  }
  if (size < BigInt(chain.size) && !shrink) {
    throw new ImageError('invalid', 'Use the --shrink option to perform a shrink operation.', {
      hint: SHRINK_WARNING,
    });
  }
  const skipAdvice = program.asQemu && program.env['QIMG_STRICT'] !== '1';
  if (skipAdvice) checkZeroing(chain, size, preallocation);
  await resizeTop(chain, toNumber(size, chain), {
    host: nodeHost,
    preallocation,
    force: force || skipAdvice,
  });
}

const SHRINK_WARNING =
  "warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
  'Before performing such an operation, make sure there is no important data there.';

/** Calculated in QEMU's 64 bits, of which the first is a sign. */
function newSize({ size }: Chain, { sign, bytes }: Wanted): bigint {
  if (sign === '') return BigInt.asIntN(64, bytes);
  return BigInt.asIntN(64, BigInt(size) + (sign === '+' ? bytes : -bytes));
}

/** QEMU has no zero clusters for these, and does not write zeros. */
function checkZeroing({ top }: Chain, size: bigint, preallocation: Preallocation): void {
  const isOld = top instanceof Qcow2Image && top.header.version < 3;
  const hides = (top.backing?.size ?? 0) > top.size && size > BigInt(top.size);
  if (!isOld || !hides || preallocation === 'falloc' || preallocation === 'full') return;
  if (top.header.nbSnapshots > 0 || size % 512n !== 0n) return;
  throw new ImageError('unsupported', 'Failed to zero out new clusters: Operation not supported');
}

function toNumber(size: bigint, { top }: Chain): number {
  if (size <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(size);
  const isQcow2 = top instanceof Qcow2Image;
  throw new ImageError('invalid', isQcow2 ? TOO_LARGE : 'Could not resize file: File too large', {
    errno: 'EFBIG',
    hint: `Sizes up to ${Number.MAX_SAFE_INTEGER} bytes are supported.`,
  });
}
