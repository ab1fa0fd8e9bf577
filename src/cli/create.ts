// qimg-ts create: a new qcow2 or raw image. Options are checked before the file is touched.

import { hostFileOf, resolveName } from '../chain/filename.ts';
import { isNbdName } from '../chain/nbd-options.ts';
import { openChain } from '../chain/open.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError, reworded, strerror } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import { nodeHost } from '../nbd/node-host.ts';
import { createImage } from '../qcow2/create.ts';
import { createRaw } from '../raw/create.ts';
import { toImageOptions, tooLarge, toRawOptions } from './create-checks.ts';
import { dataFileFor, withDataFile } from './create-data-file.ts';
import {
  type Fail,
  formattingLine,
  isOn,
  optionsHelp,
  parseCreateOptions,
} from './create-options.ts';
import { checkTarget, createTarget } from './create-target.ts';
import { asksForHelp, isOptionList } from './option-list.ts';
import { collected, Exit, newCommand, parseVerb } from './options.ts';
import { type ProgramContext, TrailedError } from './program.ts';
import { objects, readSecrets } from './secrets.ts';
import { sizeArgument } from './size.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly quiet?: boolean;
  readonly format: string;
  readonly backing?: string;
  readonly backingFormat?: string;
  readonly unsafe?: boolean;
  readonly option?: readonly string[];
}

export async function runCreate(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'create', 'FILENAME [SIZE]')
    .description('Create an image.')
    .option('-f, --format <fmt>', 'raw or qcow2', 'raw')
    .option('-b, --backing <file>', 'backing file')
    .option('-F, --backing-format <fmt>', 'format of the backing file')
    .option('-u, --unsafe', 'do not look at the backing file')
    .option('-o, --option <options>', "name=value,...; '-o help' lists them", collected(checkList))
    .option('-q, --quiet', 'print errors only')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects);
  const { flags, operands } = parseVerb<Flags>(withTrust(command), argv, program);
  const [filename, sizeText, unexpected] = operands;
  const options = flags.option ?? [];
  if (asksForHelp(options.join(','))) return listOptions(flags.format, filename, program);
  if (filename === undefined) return program.usageError('Expecting image file name');
  const size = sizeText === undefined ? undefined : sizeArgument(sizeText, 'image size', program);
  if (unexpected !== undefined) return program.usageError(`Unexpected argument: ${unexpected}`);
  const secrets = await readSecrets(flags.object);
  await create(filename, size, flags, secrets, program);
  return 0;
}

function checkList(text: string): void {
  if (!isOptionList(text)) throw new ImageError('invalid', `Invalid option list: ${text}`);
}

const isKnown = (format: string): boolean => format === 'qcow2' || format === 'raw';

function listOptions(
  format: string,
  filename: string | undefined,
  program: ProgramContext,
): number {
  if (!isKnown(format)) throw new ImageError('invalid', `Unknown file format '${format}'`);
  if (filename !== undefined) checkTarget(filename);
  const target = filename !== undefined && isNbdName(filename) ? 'export' : 'file';
  program.out(optionsHelp(format, filename === undefined ? undefined : target));
  return 0;
}

async function create(
  filename: string,
  sizeOperand: bigint | undefined,
  flags: Flags,
  secrets: Secrets,
  program: ProgramContext,
): Promise<void> {
  const fail: Fail = (message) => new ImageError('invalid', `${filename}: ${message}`);
  const { format } = flags;
  if (!isKnown(format)) throw fail(`Unknown file format '${format}'`);
  within(filename, () => checkTarget(filename));
  const options = parseCreateOptions(format, (flags.option ?? []).join(','), fail);
  addFlags(options, sizeOperand, flags, fail);
  const host = trusted(nodeHost, flags, program);
  const backingSize = await checkBacking(filename, options, flags, host, program);
  const size = options.get('size') ?? backingSize;
  if (size === undefined) throw fail('Image creation needs a size parameter');
  options.set('size', String(size));
  if (!flags.quiet) program.out(formattingLine(filename, format, options));
  program.flush?.();
  if (!program.asQemu) warnOfNoEffect(options, program);
  // As printed it may be negative: 64 bits, taken for a signed number.
  const bytes = BigInt.asUintN(64, BigInt(size));
  const target = {
    host,
    filename,
    format,
    preallocation: options.get('preallocation') ?? 'off',
  };
  if (format === 'raw') {
    const { size: length, preallocation } = toRawOptions(options, bytes, fail);
    await fill(target, (storage) => createRaw(storage, length, preallocation));
  } else {
    const image = toImageOptions(options, bytes, secrets, fail);
    const name = image.dataFile;
    const dataFile =
      name === undefined
        ? undefined
        : await withinAsync(filename, () => dataFileFor(filename, name, image.backingFile, host));
    await fill(target, (storage) =>
      withDataFile(dataFile, host, (data) => createImage(storage, image, data, host)),
    );
  }
}

/** QEMU asks the file system for these, and says nothing where it has them not; we never ask. */
function warnOfNoEffect(options: ReadonlyMap<string, string>, program: ProgramContext): void {
  const hint = options.get('extent_size_hint') ?? '0';
  const given = [
    ...(isOn(options, 'nocow') ? ['nocow'] : []),
    ...(hint === '0' ? [] : ['extent_size_hint']),
  ];
  for (const name of given) {
    program.err(
      `${program.name}: warning: '${name}' is taken for compatibility and has no effect\n`,
    );
  }
}

/** What was given by options of their own, and not with -o. */
function addFlags(
  options: Map<string, string>,
  size: bigint | undefined,
  { format, backing, backingFormat }: Flags,
  fail: Fail,
): void {
  if (size !== undefined && options.has('size')) {
    throw fail('The image size must be specified only once');
  }
  if (size !== undefined) options.set('size', String(size));
  if (format === 'raw' && backing !== undefined) {
    throw fail("Backing file not supported for file format 'raw'");
  }
  if (format === 'raw' && backingFormat !== undefined) {
    throw fail("Backing file format not supported for file format 'raw'");
  }
  if (backing !== undefined) options.set('backing_file', backing);
  if (backingFormat !== undefined) options.set('backing_fmt', backingFormat);
}

/** Opens the backing file, so that a wrong name is found now. Returns the size of its disk. */
async function checkBacking(
  filename: string,
  options: ReadonlyMap<string, string>,
  flags: Flags,
  host: Host,
  program: ProgramContext,
): Promise<number | undefined> {
  const name = options.get('backing_file');
  const format = options.get('backing_fmt');
  const fail = (message: string) => new ImageError('invalid', `${filename}: ${message}`);
  if (name === undefined) return undefined;
  if (name === '') throw fail('Expected backing file name, got empty string');
  if (name === filename) {
    throw fail('Error: Trying to create an image with the same filename as the backing file');
  }
  const unnamed = 'Backing file specified without backing format';
  if (flags.unsafe && format === undefined) throw fail(unnamed);
  if (flags.unsafe) return undefined;
  const { size, format: found } = await openBacking(filename, name, format, host);
  if (format !== undefined) return size;
  // QEMU ends this message without a new line.
  const end = program.asQemu ? '' : '\n';
  program.err(`${program.name}: ${fail(unnamed).message}\nDetected format of ${found}.${end}`);
  throw new Exit(1);
}

async function openBacking(
  filename: string,
  name: string,
  format: string | undefined,
  host: Host,
): Promise<{ readonly size: number; readonly format: string }> {
  const resolved = resolveName(filename, name);
  try {
    await using chain = await openChain(resolved, {
      host,
      describe: true,
      // Nothing of its data is read: it may be in use by a running guest.
      forceShare: true,
      ...(format !== undefined && { format }),
    });
    return { size: chain.size, format: chain.top.format };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const outer = `Could not open '${resolved}': `;
    const message = error.message.startsWith(outer)
      ? error.message.slice(outer.length)
      : error.message;
    throw new TrailedError(`${filename}: ${message}`, 'Could not open backing image.', error);
  }
}

interface Target {
  readonly host: Host;
  /** As the user wrote it. */
  readonly filename: string;
  readonly format: string;
  readonly preallocation: string;
}

/** Creates the file and fills it; one that could not be filled is of no use to anybody. */
async function fill(
  { host, filename, format, preallocation }: Target,
  work: (storage: Storage) => Promise<unknown>,
): Promise<void> {
  await withinAsync(filename, async () => {
    const storage = await createTarget(filename, host);
    try {
      await work(storage);
      await storage.flush();
    } catch (error) {
      if (storage.resizable) await host.remove(hostFileOf(filename)).catch(() => undefined);
      throw inCreateWords(error, format, preallocation);
    } finally {
      await storage.close();
    }
  });
}

function inCreateWords(error: unknown, format: string, preallocation: string): unknown {
  if (!(error instanceof ImageError) || error.errno === undefined) return error;
  if (error.errno === 'EFBIG') return reworded(error, tooLarge(format));
  const doing = RESERVING[preallocation];
  if (error.code !== 'no-space' || doing === undefined) return error;
  const outer =
    format === 'qcow2' ? 'Could not resize image: Failed to resize underlying file: ' : '';
  return reworded(error, `${outer}${doing}: ${strerror(error.errno)}`);
}

const RESERVING: Readonly<Record<string, string>> = {
  falloc: 'Could not preallocate new data',
  full: 'Could not write zeros for preallocation',
};

function within<T>(filename: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw named(error, filename);
  }
}

async function withinAsync<T>(filename: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw named(error, filename);
  }
}

function named(error: unknown, filename: string): unknown {
  return error instanceof ImageError ? reworded(error, `${filename}: ${error.message}`) : error;
}
