// qimg-ts check, without repair: prints what is wrong, exits 0, 1, 2, 3 or 63.

import { hostFileOf, resolveName } from '../chain/filename.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError, strerror } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { nodeHost } from '../io/node-host.ts';
import { type CheckResult, checkImage } from '../qcow2/check.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { INCOMPATIBLE } from '../qcow2/spec.ts';
import { checkText, checkToJson } from './check-output.ts';
import { UsageError } from './getopt.ts';
import { qemuJson } from './json.ts';
import { openNamed, warner } from './open-named.ts';
import {
  CACHE_MODES,
  type NamedImage,
  namedImage,
  newCommand,
  parsed,
  parseVerb,
  toCacheMode,
} from './options.ts';
import { type ProgramContext, reportError } from './program.ts';
import { objects, readSecrets } from './secrets.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly quiet?: boolean;
  readonly format?: string;
  readonly output: string;
  readonly repair?: string;
  readonly forceShare?: boolean;
  readonly sourceCache: string;
}

const FAILED = 1;
const CORRUPT = 2;
const LEAKED = 3;
const NOT_CHECKABLE = 63;

export async function runCheck(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'check', 'FILENAME')
    .description('Look for errors in an image, without changing it.')
    .option('-f, --format <fmt>', 'format of the image; without it, probed')
    .option('-q, --quiet', 'print errors only')
    .option('--output <format>', 'human or json', 'human')
    .option('-r, --repair <what>', 'not supported yet', parsed(checkRepair))
    .option('-T, --source-cache <mode>', `cache mode: ${CACHE_MODES.join(', ')}`, 'writeback')
    .option('-U, --force-share', 'open the image although another process writes to it')
    .option('--object <object>', 'define an object (secret)', objects)
    .option('--image-opts', 'FILENAME is a list of options');
  const { flags, operands } = parseVerb<Flags>(withTrust(command), argv, program);
  const secrets = await readSecrets(flags.object);
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  if (flags.output !== 'human' && flags.output !== 'json') {
    throw new ImageError('invalid', '--output must be used with human or json as argument.');
  }
  if (!CACHE_MODES.includes(flags.sourceCache)) {
    throw new ImageError('invalid', `Invalid source cache option: ${flags.sourceCache}`);
  }
  return await check(namedImage(operand, flags, program), flags, secrets, program);
}

function checkRepair(what: string): string {
  if (what === 'leaks' || what === 'all') return what;
  throw new UsageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${what}`);
}

async function check(
  named: NamedImage,
  flags: Flags,
  secrets: Secrets,
  program: ProgramContext,
): Promise<number> {
  const cache = toCacheMode(flags.sourceCache);
  const forceShare = flags.forceShare === true;
  // QEMU does not check what stands on a missing backing file, though nothing of a check needs it.
  const backing = program.asQemu;
  // Nor does anything need the key, but QEMU asks for it.
  const keys = { secrets, locked: !program.asQemu };
  const host = trusted(nodeHost, flags, program);
  const opening = { host, forceShare, cache, backing, ...keys, describe: true, checking: true };
  const onWarning = warner(program);
  const chain = await openNamed(named, { ...opening, onWarning }).catch((error: unknown) => {
    throw inCheckWords(error, named.label);
  });
  try {
    const image = chain.top;
    if (!(image instanceof Qcow2Image)) {
      program.err(`${program.name}: This image format does not support checks\n`);
      return NOT_CHECKABLE;
    }
    if (flags.repair !== undefined) {
      throw new OpenError('unsupported', 'Repairing is not supported yet; nothing was changed');
    }
    await checkCompanions(image, named, host);
    const result = await checkImage(image, (message) => program.err(`${message}\n`));
    report(result, named.filename, flags, program);
    if (result.checkErrors > 0) {
      program.err(`${program.name}: Check failed\n`);
      return FAILED;
    }
    if (result.corruptions > 0) return CORRUPT;
    return result.leaks > 0 ? LEAKED : 0;
  } catch (error) {
    if (!(error instanceof ImageError) || error instanceof OpenError) throw error;
    const told = program.asQemu && error.message.startsWith(BAD_BITMAP);
    if (error.message !== '' && !told) reportError(error, program);
    program.err(`${program.name}: Check failed: ${strerror(error.errno ?? 'EINVAL')}\n`);
    return FAILED;
  } finally {
    await chain.close();
  }
}

/** QEMU has no words for a nonsensical table of a bitmap that it does not use. */
const BAD_BITMAP = 'Could not read bitmap';

class OpenError extends ImageError {}

/** A check reads the snapshot table by itself, and not when it opens the image. */
function inCheckWords(error: unknown, label: string): unknown {
  if (!(error instanceof ImageError)) return error;
  const head = `Could not open '${label}': Snapshot table `;
  if (!error.message.startsWith(head)) return error;
  const tooLarge = error.message.endsWith('too large');
  const advice = error.hint === undefined ? '' : `\n${error.hint}`;
  const message = `ERROR snapshot table ${error.message.slice(head.length)}${advice}`;
  const failed = `Check failed: ${strerror(tooLarge ? 'EFBIG' : 'EINVAL')}`;
  return new ImageError(error.code, message, { cause: error, hint: failed });
}

/** What QEMU opens beside the image: the data file. */
async function checkCompanions(image: Qcow2Image, named: NamedImage, host: Host): Promise<void> {
  const { header } = image;
  const fail = (error: string, code: ImageError['code'] = 'invalid') =>
    new OpenError(code, `Could not open '${named.label}': ${error}`);
  if ((header.incompatibleFeatures & INCOMPATIBLE.externalDataFile) !== 0n) {
    if (header.dataFile === null) throw fail("'data-file' is required for this image");
    const name = hostFileOf(resolveName(image.filename, header.dataFile));
    try {
      await host.checkNamed?.(header.dataFile, name);
      await (await host.openStorage(name, { writable: false })).close();
    } catch (error) {
      throw error instanceof ImageError ? fail(error.message, error.code) : error;
    }
  }
}

function report(
  result: CheckResult,
  filename: string,
  flags: Flags,
  program: ProgramContext,
): void {
  if (flags.quiet) return;
  if (flags.output === 'json') {
    program.out(`${qemuJson(checkToJson(result, filename))}\n`);
  } else program.out(checkText(result));
}
