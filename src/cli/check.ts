// qimg-ts check, without repair: prints what is wrong, exits 0, 1, 2, 3 or 63.

import { openChain } from '../chain/open.ts';
import { ImageError } from '../errors.ts';
import { nodeHost } from '../io/node-host.ts';
import { type CheckResult, checkImage } from '../qcow2/check.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { collect, namedImage, newCommand, parseObject, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';

interface Flags {
  readonly object: readonly string[];
  readonly imageOpts?: boolean;
  readonly quiet?: boolean;
  readonly format?: string;
  readonly output: string;
  readonly repair?: string;
  readonly forceShare?: boolean;
}

const CORRUPT = 2;
const LEAKED = 3;
const NOT_CHECKABLE = 63;

export async function runCheck(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'check')
    .description('Look for errors in an image, without changing it.')
    .argument('[filename...]', 'the image')
    .option('-f, --format <fmt>', 'format of the image; without it, probed')
    .option('-q, --quiet', 'print errors only')
    .option('--output <format>', 'human or json', 'human')
    .option('-r, --repair <what>', 'not supported yet')
    .option('-U, --force-share', 'open the image although another process writes to it')
    .option('--object <object>', 'define an object (secret)', collect, [])
    .option('--image-opts', 'FILENAME is a list of options');
  const { flags, operands } = parseVerb<Flags>(command, argv, program);
  if (flags.output !== 'human' && flags.output !== 'json') {
    throw new ImageError('invalid', '--output must be used with human or json as argument.');
  }
  if (flags.repair !== undefined) {
    if (flags.repair !== 'leaks' && flags.repair !== 'all') {
      return program.usageError(
        `Unknown option value for -r (expecting 'leaks' or 'all'): ${flags.repair}`,
      );
    }
    throw new ImageError('unsupported', 'Repairing is not supported yet; nothing was changed');
  }
  for (const object of flags.object) parseObject(object);
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  const named = namedImage(operand, flags);
  const chain = await openChain(named.filename, {
    host: nodeHost,
    single: true,
    describe: true,
    forceShare: flags.forceShare === true,
    ...(named.format !== undefined && { format: named.format }),
  });
  try {
    const image = chain.top;
    if (!(image instanceof Qcow2Image)) {
      program.err(`${program.name}: This image format does not support checks\n`);
      return NOT_CHECKABLE;
    }
    const result = await checkImage(image, (message) => program.err(`${message}\n`));
    report(result, named.filename, flags, program);
    if (result.corruptions > 0) return CORRUPT;
    return result.leaks > 0 ? LEAKED : 0;
  } finally {
    await chain.close();
  }
}

function report(
  result: CheckResult,
  filename: string,
  flags: Flags,
  program: ProgramContext,
): void {
  if (flags.output === 'json')
    program.out(`${JSON.stringify(toJson(result, filename), null, 4)}\n`);
  else if (!flags.quiet) program.out(toText(result));
}

/** In the order of qemu-img; what is zero is left out where it leaves it out. */
function toJson(result: CheckResult, filename: string): Record<string, unknown> {
  const count = (name: string, value: number) => (value === 0 ? {} : { [name]: value });
  return {
    'image-end-offset': result.imageEndOffset,
    ...count('compressed-clusters', result.compressedClusters),
    ...count('total-clusters', result.totalClusters),
    ...count('corruptions', result.corruptions),
    'check-errors': 0,
    ...count('leaks', result.leaks),
    ...count('allocated-clusters', result.allocatedClusters),
    filename,
    format: 'qcow2',
    ...count('fragmented-clusters', result.fragmentedClusters),
  };
}

function toText(result: CheckResult): string {
  const { corruptions, leaks, totalClusters, allocatedClusters } = result;
  const percent = (part: number, of: number) => ((part * 100) / of).toFixed(2);
  let text = '';
  if (corruptions === 0 && leaks === 0) text += 'No errors were found on the image.\n';
  if (corruptions > 0) {
    text +=
      `\n${corruptions} errors were found on the image.\n` +
      'Data may be corrupted, or further writes to the image may corrupt it.\n';
  }
  if (leaks > 0) {
    text +=
      `\n${leaks} leaked clusters were found on the image.\n` +
      'This means waste of disk space, but no harm to data.\n';
  }
  if (totalClusters > 0 && allocatedClusters > 0) {
    text +=
      `${allocatedClusters}/${totalClusters} = ${percent(allocatedClusters, totalClusters)}% ` +
      `allocated, ${percent(result.fragmentedClusters, allocatedClusters)}% fragmented, ` +
      `${percent(result.compressedClusters, allocatedClusters)}% compressed clusters\n`;
  }
  return `${text}Image end offset: ${result.imageEndOffset}\n`;
}
