// qimg-ts create: a new qcow2 or raw image. Options are checked before the file is touched.

import { hostFileOf, resolveName } from '../chain/filename.ts';
import { openChain } from '../chain/open.ts';
import { ImageError, reworded } from '../errors.ts';
import { nodeHost } from '../io/node-host.ts';
import { type CreateOptions, createImage } from '../qcow2/create.ts';
import { alignUp, parseSize, SECTOR } from '../units.ts';
import { formattingLine, parseCreateOptions, toImageOptions } from './create-options.ts';
import { collect, newCommand, parseObjects, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';

interface Flags {
  readonly object?: readonly string[];
  readonly quiet?: boolean;
  readonly format: string;
  readonly backing?: string;
  readonly backingFormat?: string;
  readonly unsafe?: boolean;
  readonly option?: readonly string[];
}

const MOST = 2 ** 63;

export async function runCreate(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'create', 'FILENAME [SIZE]')
    .description('Create an image.')
    .option('-f, --format <fmt>', 'raw or qcow2', 'raw')
    .option('-b, --backing <file>', 'backing file')
    .option('-F, --backing-format <fmt>', 'format of the backing file')
    .option('-u, --unsafe', 'do not look at the backing file')
    .option('-o, --option <options>', 'name=value,...', collect)
    .option('-q, --quiet', 'print errors only')
    .option('--object <object>', 'define an object (secret)', collect);
  const { flags, operands } = parseVerb<Flags>(command, argv, program);
  const [filename, sizeText, unexpected] = operands;
  if (filename === undefined) return program.usageError('Expecting image file name');
  if (unexpected !== undefined) return program.usageError(`Unexpected argument: ${unexpected}`);
  parseObjects(flags.object);
  const size = sizeText === undefined ? undefined : checkSize(sizeText);
  await create(filename, size, flags, program);
  return 0;
}

function checkSize(text: string): number {
  const size = parseSize(text);
  if (size !== undefined) return size;
  if (/^\d+(\.\d*)?[bkmgtpe]?$/i.test(text)) {
    throw new ImageError(
      'invalid',
      `Invalid image size specified. Must be between 0 and ${BigInt(MOST) - 1n}.`,
    );
  }
  throw new ImageError(
    'invalid',
    'Invalid image size specified. You may use k, M, G, T, P or E suffixes for',
    { hint: 'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.' },
  );
}

async function create(
  filename: string,
  sizeOperand: number | undefined,
  flags: Flags,
  program: ProgramContext,
): Promise<void> {
  const fail = (message: string, second?: string) =>
    new ImageError(
      'invalid',
      `${filename}: ${message}${second === undefined ? '' : `\n${second}`}`,
    );
  if (flags.format !== 'qcow2' && flags.format !== 'raw') {
    throw fail(`Unknown file format '${flags.format}'`);
  }
  const options = parseCreateOptions(flags.format, flags.option ?? [], (message) => fail(message));
  if (flags.format === 'raw' && (flags.backing ?? options.get('backing_file')) !== undefined) {
    throw fail("Backing file not supported for file format 'raw'");
  }
  if (flags.backing !== undefined) options.set('backing_file', flags.backing);
  if (flags.backingFormat !== undefined) options.set('backing_fmt', flags.backingFormat);
  if (sizeOperand !== undefined) options.set('size', String(sizeOperand));
  const backingSize = await checkBacking(filename, options, flags.unsafe === true, fail);
  const size = Number(options.get('size') ?? backingSize ?? Number.NaN);
  if (Number.isNaN(size)) throw fail('Image creation needs a size parameter');
  options.set('size', String(size));
  // Throws for a protocol that we don't have, before anything is printed.
  const target = { filename, file: hostFileOf(filename) };
  if (!flags.quiet) program.out(formattingLine(filename, flags.format, options));
  const diskSize = alignUp(size, SECTOR);
  if (flags.format === 'raw') {
    await createRaw(target, diskSize);
    return;
  }
  const imageOptions = toImageOptions(options, diskSize, (message) => fail(message));
  await createQcow2(target, imageOptions);
}

type Fail = (message: string, second?: string) => ImageError;

/** Opens the backing file, so that a wrong name is found now. Returns the size of its disk. */
async function checkBacking(
  filename: string,
  options: ReadonlyMap<string, string>,
  unsafe: boolean,
  fail: Fail,
): Promise<number | undefined> {
  const name = options.get('backing_file');
  const format = options.get('backing_fmt');
  if (name === undefined) return undefined;
  if (name === filename) {
    throw fail('Error: Trying to create an image with the same filename as the backing file');
  }
  if (unsafe) return undefined;
  const resolved = hostFileOf(resolveName(filename, name));
  try {
    await using chain = await openChain(resolved, {
      host: nodeHost,
      describe: true,
      ...(format !== undefined && { format }),
    });
    if (format === undefined) {
      throw new ProbedError(chain.top.format);
    }
    return chain.size;
  } catch (error) {
    if (error instanceof ProbedError) {
      throw fail(
        'Backing file specified without backing format',
        `Detected format of ${error.message}.`,
      );
    }
    if (!(error instanceof ImageError)) throw error;
    const outer = `Could not open '${resolved}': `;
    const message = error.message.startsWith(outer)
      ? error.message.slice(outer.length)
      : error.message;
    throw fail(message, 'Could not open backing image.');
  }
}

class ProbedError extends Error {}

interface Target {
  /** As the user wrote it. */
  readonly filename: string;
  readonly file: string;
}

async function createRaw({ filename, file }: Target, size: number): Promise<void> {
  try {
    await using closing = closeLater(await nodeHost.createStorage(file));
    const { storage } = closing;
    if (storage.resizable) await storage.resize(size);
    else if (storage.size < size) {
      throw new ImageError('no-space', `The device has ${storage.size} bytes only`);
    }
    await storage.flush();
  } catch (error) {
    throw error instanceof ImageError ? reworded(error, `${filename}: ${error.message}`) : error;
  }
}

async function createQcow2({ filename, file }: Target, options: CreateOptions): Promise<void> {
  try {
    await using closing = closeLater(await nodeHost.createStorage(file));
    await createImage(closing.storage, options);
    await closing.storage.flush();
  } catch (error) {
    throw error instanceof ImageError ? reworded(error, `${filename}: ${error.message}`) : error;
  }
}

function closeLater<T extends { close(): Promise<void> }>(storage: T) {
  return { storage, [Symbol.asyncDispose]: () => storage.close() };
}
