// qimg-ts map: which range of the disk comes from which file, and from where in it.

import type { BlockStatus } from '../chain/block-status.ts';
import type { Chain } from '../chain/chain.ts';
import { ImageError, strerror } from '../errors.ts';
import { patientHost } from '../nbd/node-host.ts';
import { KIB } from '../units.ts';
import { emptyMapObject, MAP_HEADING, mapLine, mapObject } from './map-output.ts';
import { openNamed, warner } from './open-named.ts';
import { namedImage, newCommand, parsed, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';
import { objects, readSecrets } from './secrets.ts';
import { sizeArgument } from './size.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';
import { visible } from './visible.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly format?: string;
  readonly output: string;
  readonly startOffset?: number;
  readonly maxLength?: number;
  readonly forceShare?: boolean;
}

export async function runMap(argv: readonly string[], program: ProgramContext): Promise<number> {
  const size = (what: string) => parsed((text) => Number(sizeArgument(text, what, program)));
  const command = newCommand(program, 'map', 'FILENAME')
    .description('Show which range of the disk comes from which file of the backing chain.')
    .option('-f, --format <fmt>', 'format of the image; without it, probed')
    .option(
      '-s, --start-offset <offset>',
      'first byte of the disk to look at',
      size('start offset'),
    )
    .option('-l, --max-length <length>', 'bytes of the disk to look at', size('max length'))
    .option('--output <format>', 'human or json', 'human')
    .option('-U, --force-share', 'open the image although another process writes to it')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects)
    .option('--image-opts', 'FILENAME is a list of options');
  const { flags, operands } = parseVerb<Flags>(withTrust(command), argv, program);
  const { startOffset: start = 0, maxLength: most = Number.POSITIVE_INFINITY } = flags;
  const secrets = await readSecrets(flags.object);
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  if (flags.output !== 'human' && flags.output !== 'json') {
    throw new ImageError('invalid', '--output must be used with human or json as argument.');
  }
  const forceShare = flags.forceShare === true;
  const chain = await openNamed(namedImage(operand, flags, program), {
    host: trusted(patientHost, flags, program),
    forceShare,
    backing: true,
    secrets,
    onWarning: warner(program),
  });
  try {
    const print = flags.output === 'json' ? printJson : printHuman;
    return await print(chain, start, Math.min(start + most, chain.size), program);
  } finally {
    await chain.close();
  }
}

type Print = (chain: Chain, start: number, end: number, program: ProgramContext) => Promise<number>;

const printHuman: Print = async (chain, start, end, program) => {
  const output = new Output(program, MAP_HEADING);
  const isWhole = await eachStatus(chain, start, end, output, (status) => {
    const { fileName } = chain.at(status.depth);
    const line = mapLine(status, program.asQemu ? fileName : visible(fileName));
    if (line !== undefined) output.add(line);
    return line !== undefined;
  });
  output.flush();
  if (!isWhole) {
    throw new ImageError(
      'unsupported',
      'File contains external, encrypted or compressed clusters.',
      { hint: "'--output=json' shows them." },
    );
  }
  return 0;
};

const printJson: Print = async (chain, start, end, program) => {
  const output = new Output(program, '[');
  let separator = '';
  await eachStatus(chain, start, end, output, (status) => {
    output.add(`${separator}${mapObject(status)}`);
    separator = ',\n';
    return true;
  });
  if (separator === '') output.add(emptyMapObject(start));
  output.add(']\n');
  output.flush();
  return 0;
};

/**
 * Until one can't be told: then false. What was made of those before is printed where the map breaks
 * off.
 */
async function eachStatus(
  chain: Chain,
  start: number,
  end: number,
  output: Output,
  tell: (status: BlockStatus) => boolean,
): Promise<boolean> {
  if (start >= end) return true;
  const statuses = chain.status(start, end - start);
  try {
    for await (const status of statuses) {
      if (!tell(status)) return false;
    }
    return true;
  } catch (error) {
    output.flush();
    throw error instanceof ImageError ? inMapWords(error) : error;
  }
}

/** What was found broken is the hint; QEMU tells the kind of error alone. */
function inMapWords(error: ImageError): ImageError {
  const message = `Could not read file metadata: ${strerror(error.errno ?? 'EIO')}`;
  return new ImageError(error.code, message, { cause: error, hint: error.message });
}

const BUFFER = 64 * KIB;

/** Many short lines, written together. */
class Output {
  readonly #program: ProgramContext;
  #text: string;

  constructor(program: ProgramContext, text: string) {
    this.#program = program;
    this.#text = text;
  }

  add(text: string): void {
    this.#text += text;
    if (this.#text.length > BUFFER) this.flush();
  }

  flush(): void {
    this.#program.out(this.#text);
    this.#text = '';
  }
}
