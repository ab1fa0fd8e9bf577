// qimg-ts check: prints what is wrong, repairs it where asked to, exits 0, 1, 2, 3 or 63.

import { hostFileOf, resolveName } from '../chain/filename.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError, strerror } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { OverlayStorage } from '../io/overlay.ts';
import { patientHost } from '../nbd/node-host.ts';
import { type CheckResult, checkImage, type Tell } from '../qcow2/check.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { type Fix, repairImage } from '../qcow2/repair.ts';
import { whyNoBitmaps } from '../qcow2/repair-bitmaps.ts';
import { NeedsRebuild } from '../qcow2/repair-round.ts';
import { readState } from '../qcow2/repair-state.ts';
import { INCOMPATIBLE } from '../qcow2/spec.ts';
import { checkText, checkToJson, type Fixed, fixedText } from './check-output.ts';
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
  readonly repair?: Fix;
  readonly dryRun?: boolean;
  readonly forceShare?: boolean;
  readonly sourceCache: string;
}

const FAILED = 1;
const CORRUPT = 2;
const LEAKED = 3;
const NOT_CHECKABLE = 63;

export async function runCheck(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'check', 'FILENAME')
    .description('Look for errors in an image; with -r, repair them.')
    .option('-f, --format <fmt>', 'format of the image; without it, probed')
    .option('-q, --quiet', 'print errors only')
    .option('--output <format>', 'human or json', 'human')
    .option(
      '-r, --repair <what>',
      'leaks: give back space that nothing uses; all',
      parsed(checkRepair),
    )
    .option('--dry-run', 'say what a repair (-r all, or as given) would do; write nothing')
    .option('-T, --source-cache <mode>', `cache mode: ${CACHE_MODES.join(', ')}`, 'writeback')
    .option('-U, --force-share', 'open the image although another process writes to it')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects)
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

function checkRepair(what: string): Fix {
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
  const fix = flags.repair ?? (flags.dryRun ? 'all' : undefined);
  const writable = fix !== undefined && flags.dryRun !== true;
  if (writable && forceShare) {
    throw new ImageError(
      'invalid',
      `Could not open '${named.label}': force-share=on can only be used with read-only images`,
    );
  }
  const checking = fix === undefined ? true : 'repair';
  const host = trusted(patientHost, flags, program);
  const opening = {
    host,
    forceShare,
    cache,
    backing,
    ...keys,
    describe: true,
    checking,
    writable,
  } as const;
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
    await checkCompanions(image, named, host);
    if (fix !== undefined && program.asQemu) await checkBitmaps(image, named);
    const tell: Tell = (message) => program.err(`${message}\n`);
    const { result, fixed } =
      fix === undefined
        ? { result: await checkImage(image, tell), fixed: undefined }
        : await repair(image, fix, tell, flags, program);
    report(result, fixed, named.filename, flags, program);
    if (result.checkErrors > 0) {
      program.err(`${program.name}: Check failed\n`);
      return FAILED;
    }
    if (result.corruptions > 0) return CORRUPT;
    return result.leaks > 0 ? LEAKED : 0;
  } catch (error) {
    if (!(error instanceof ImageError) || error instanceof OpenError) throw error;
    if (!program.asQemu || hasWords(error)) reportError(error, program);
    program.err(`${program.name}: Check failed: ${strerror(error.errno ?? 'EINVAL')}\n`);
    return FAILED;
  } finally {
    await chain.close();
  }
}

interface Repaired {
  /** Of the last look at the image. */
  readonly result: CheckResult;
  readonly fixed: Fixed;
}

/** What was repaired is looked at once more. */
async function repair(
  image: Qcow2Image,
  fix: Fix,
  tell: Tell,
  { dryRun = false, quiet, output }: Flags,
  program: ProgramContext,
): Promise<Repaired> {
  const storage = dryRun ? new OverlayStorage(image.storage) : image.storage;
  const fixed = await repairImage(storage, fix, tell);
  if (fixed.leaksFixed + fixed.corruptionsFixed === 0) return { result: fixed, fixed };
  if (!quiet && output === 'human') program.out(fixedText(fixed, dryRun));
  return { result: await checkImage(await readState(storage), tell), fixed };
}

/** QEMU says nothing of a nonsensical table of a bitmap that it does not use, and no more of others. */
function hasWords(error: ImageError): boolean {
  return !error.message.startsWith('Could not read bitmap') && !(error instanceof NeedsRebuild);
}

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

/** QEMU opens no image with bitmaps that make no sense, not even to repair it. */
async function checkBitmaps({ storage }: Qcow2Image, { label }: NamedImage): Promise<void> {
  const why = await whyNoBitmaps(storage);
  if (why !== undefined) throw new OpenError(why.code, `Could not open '${label}': ${why.message}`);
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
  fixed: Fixed | undefined,
  filename: string,
  flags: Flags,
  program: ProgramContext,
): void {
  if (flags.quiet) return;
  if (flags.output === 'json') {
    const dryRun = flags.dryRun === true && { 'dry-run': true };
    const members = { ...checkToJson(result, filename, fixed), ...dryRun };
    program.out(`${qemuJson(members)}\n`);
  } else program.out(checkText(result));
}
