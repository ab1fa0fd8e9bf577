// qimg-ts bitmap: changes persistent bitmaps, one operation after the other as they are named. What
// was done before one that is refused stays done, as in QEMU.

import type { Chain } from '../chain/chain.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError, reworded } from '../errors.ts';
import { nodeHost } from '../nbd/node-host.ts';
import {
  addBitmap,
  type BitmapSource,
  clearBitmap,
  mergeBitmap,
  removeBitmap,
  setBitmapEnabled,
} from '../qcow2/bitmap-edit.ts';
import type { Bitmaps } from '../qcow2/bitmaps.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import type { Words } from './getopt.ts';
import { checkNotEmpty, closingAfter, openNamed, warner } from './open-named.ts';
import { collect, type NamedImage, namedImage, newCommand, parsed, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';
import { warnIfTakenForRaw } from './raw-warning.ts';
import { objects, readSecrets } from './secrets.ts';
import { sizeArgument } from './size.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly format?: string;
  readonly granularity?: number;
  readonly sourceFile?: string;
  readonly sourceFormat?: string;
}

const OPERATIONS = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const;

interface Operation {
  readonly kind: (typeof OPERATIONS)[number];
  /** Of `merge`: the bitmap whose bits come in. */
  readonly source: string;
}

interface Task {
  readonly bitmap: string;
  readonly operations: readonly Operation[];
  /** Zero: none was given. */
  readonly granularity: number;
}

export async function runBitmap(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'bitmap', 'FILENAME BITMAP')
    .description(
      'Change persistent bitmaps of a qcow2 image: do what is named, in that order, to BITMAP.',
    )
    .option('--add', 'add it; it records from now on')
    .option('--remove', 'remove it')
    .option('--clear', 'make all of it clean')
    .option('--enable', 'record what is written from now on')
    .option('--disable', 'stop recording')
    .option('--merge <source>', 'make dirty what the bitmap SOURCE calls dirty', collect)
    .option('-b, --source-file <file>', 'with --merge: the image that SOURCE is in')
    .option('-F, --source-format <fmt>', 'its format; without it, probed')
    .option(
      '-g, --granularity <size>',
      'with --add: bytes of the disk for each bit',
      parsed((text) => granularityOf(text, program)),
    )
    .option('-f, --format <fmt>', 'format of FILENAME; without it, probed')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects)
    .option('--image-opts', 'FILENAME is a list of options');
  const { flags, operands, options } = parseVerb<Flags>(withTrust(command), argv, program);
  const { granularity = 0 } = flags;
  const secrets = await readSecrets(flags.object);
  const operations = operationsIn(options);
  checkOptions(operations, granularity, flags);
  const [filename, bitmap] = operands;
  if (filename === undefined || bitmap === undefined || operands.length > 2) {
    throw new ImageError('invalid', 'Expecting filename and bitmap name');
  }
  const named = namedImage(filename, flags, program);
  await carryOut(named, { bitmap, operations, granularity }, flags, secrets, program);
  return 0;
}

/** QEMU takes the last 32 bits of it. */
function granularityOf(text: string, program: ProgramContext): number {
  const size = sizeArgument(text, 'granularity', program);
  if (size === 0n || !program.asQemu) return Number(size);
  // None of it left is no power of two, but it was given.
  return Number(BigInt.asUintN(32, size)) || 1;
}

function operationsIn(options: Words['options']): readonly Operation[] {
  return options.flatMap(({ long, value = '' }) => {
    const kind = OPERATIONS.find((known) => known === long);
    return kind === undefined ? [] : [{ kind, source: value }];
  });
}

function checkOptions(
  operations: readonly Operation[],
  granularity: number,
  { sourceFile, sourceFormat }: Flags,
): void {
  const refuse = (message: string) => {
    throw new ImageError('invalid', message);
  };
  const has = (wanted: Operation['kind']) => operations.some(({ kind }) => kind === wanted);
  if (operations.length === 0) {
    const words = '--add, --remove, --clear, --enable, --disable, or --merge';
    refuse(`Need at least one of ${words}`);
  }
  if (granularity !== 0 && !has('add')) refuse('granularity only supported with --add');
  if (sourceFormat !== undefined && sourceFile === undefined) refuse('-F only supported with -b');
  if (sourceFile !== undefined && !has('merge')) {
    refuse('Merge bitmap source file only supported with --merge');
  }
}

async function carryOut(
  named: NamedImage,
  task: Task,
  flags: Flags,
  secrets: Secrets,
  program: ProgramContext,
): Promise<void> {
  const { sourceFile, sourceFormat } = flags;
  const host = trusted(nodeHost, flags, program);
  checkNotEmpty(named);
  const chain = await openNamed(named, {
    host,
    forceShare: false,
    writable: true,
    describe: false,
    secrets,
    locked: true,
    onWarning: warner(program),
  });
  await closingAfter(chain, async () => {
    if (program.asQemu) warnIfTakenForRaw(chain.at(0), program);
    const refusal = qcow2In(chain)?.refusalToWrite({ dataUnchanged: true });
    if (refusal !== undefined) {
      throw reworded(refusal, `Could not open '${named.label}': ${refusal.message}`);
    }
    if (sourceFile === undefined) return await change(chain, task);
    const format = sourceFormat === undefined ? {} : { format: sourceFormat };
    const from = namedImage(sourceFile, { imageOpts: false, ...format }, program);
    checkNotEmpty(from);
    const source = await openNamed(from, {
      host,
      forceShare: false,
      describe: false,
      secrets,
      locked: true,
      onWarning: warner(program),
    });
    await closingAfter(source, () => change(chain, task, source));
  });
}

const qcow2In = ({ top }: Chain): Qcow2Image | undefined =>
  top instanceof Qcow2Image ? top : undefined;

async function change(chain: Chain, task: Task, from?: Chain): Promise<void> {
  const image = qcow2In(chain);
  if (image === undefined) throw withoutBitmaps(chain, task);
  await image.verify();
  await image.changeBitmaps(async (bitmaps) => {
    const source = from === undefined ? image : sourceIn(from);
    for (const operation of task.operations) {
      await inWords(operation, task, () => operate(operation, task, { image, bitmaps, source }));
    }
  });
}

/** Images of other formats have none. */
function sourceIn({ top }: Chain): BitmapSource | null {
  return top instanceof Qcow2Image ? top : null;
}

function withoutBitmaps({ top }: Chain, { operations, bitmap }: Task): ImageError {
  const [first] = operations;
  const why =
    first?.kind === 'add'
      ? `Can't store persistent bitmaps to ${top.filename}: Operation not supported`
      : `Dirty bitmap '${bitmap}' not found`;
  return new ImageError('invalid', `Operation ${first?.kind} on bitmap ${bitmap} failed: ${why}`);
}

async function inWords(
  { kind }: Operation,
  { bitmap }: Task,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    throw reworded(error, `Operation ${kind} on bitmap ${bitmap} failed: ${error.message}`);
  }
}

interface Parts {
  readonly image: Qcow2Image;
  /** Its own. */
  readonly bitmaps: Bitmaps;
  readonly source: BitmapSource | null;
}

async function operate(
  { kind, source: sourceName }: Operation,
  { bitmap, granularity }: Task,
  { image, bitmaps, source }: Parts,
): Promise<void> {
  if (kind === 'add') addBitmap(bitmaps, image, bitmap, granularity || undefined);
  else if (kind === 'remove') removeBitmap(bitmaps, bitmap);
  else if (kind === 'clear') clearBitmap(bitmaps, bitmap);
  else if (kind === 'merge') await mergeBitmap(image, bitmap, source, sourceName);
  else setBitmapEnabled(bitmaps, bitmap, kind === 'enable');
}
