// qimg-ts chain: the layers of a chain, what each holds, what is wrong; as text, JSON or a drawing.

import { writeFileSync } from 'node:fs';
import { type Survey, surveyChain } from '../chain/survey.ts';
import { errnoOf, ImageError, strerror } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { patientHost } from '../nbd/node-host.ts';
import { chainToJson, isBroken } from './chain-json.ts';
import { layoutFor } from './chain-picture.ts';
import { chainSvg, SVG_CELLS } from './chain-svg.ts';
import { chainText } from './chain-text.ts';
import { collect, newCommand, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';
import { painter, stdoutTerminal } from './terminal.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';

interface Flags extends TrustFlags {
  readonly format?: string;
  readonly output: string;
  readonly svg?: string;
  readonly search?: readonly string[];
  readonly forceShare?: boolean;
}

export async function runChain(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'chain', 'FILENAME')
    .description('Show the layers of a chain: what each holds, what is hidden, what is wrong.')
    .option('-f, --format <fmt>', 'format of the image; without it, probed')
    .option('--output <format>', 'human or json', 'human')
    .option('--svg <file>', 'also draw the chain into this file')
    .option('--search <dir>', 'look for other overlays here too (repeatable)', collect)
    .option('-U, --force-share', 'open the images although another process writes to them');
  const { flags, operands } = parseVerb<Flags>(withTrust(command), argv, program);
  if (flags.output !== 'human' && flags.output !== 'json') {
    throw new ImageError('invalid', '--output must be used with human or json as argument.');
  }
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  const { columns, colours } = stdoutTerminal(program.env);
  const host = trusted(patientHost, flags, program);
  const seen = await survey(operand, host, flags, (names) => layoutFor(columns, names).cells);
  if (flags.svg !== undefined) {
    writeDrawing(flags.svg, chainSvg(await survey(operand, host, flags, () => SVG_CELLS)));
  }
  if (flags.output === 'json') program.out(chainToJson(seen));
  else program.out(chainText(seen, columns, painter(colours)));
  return isBroken(seen) ? 1 : 0;
}

function writeDrawing(filename: string, text: string): void {
  try {
    writeFileSync(filename, text);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    throw new ImageError('io', `Could not write '${filename}': ${strerror(errno)}`, { errno });
  }
}

function survey(
  filename: string,
  host: Host,
  flags: Flags,
  cells: (filenames: readonly string[]) => number,
): Promise<Survey> {
  const { format, search, forceShare } = flags;
  return surveyChain(filename, {
    host,
    cells,
    ...(format !== undefined && { format }),
    ...(search !== undefined && { search }),
    ...(forceShare !== undefined && { forceShare }),
  });
}
