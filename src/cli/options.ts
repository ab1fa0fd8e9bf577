// Options of a verb, read by commander, with QEMU's words for what is wrong with them.

import { Command, CommanderError } from 'commander';
import { ImageError } from '../errors.ts';
import type { ProgramContext } from './program.ts';

/** Thrown when the verb has said all there is to say: with this exit code. */
export class Exit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

export function newCommand(program: ProgramContext, verb: string): Command {
  return new Command(`${program.name} ${verb}`)
    .helpOption('-h, --help', 'show this help')
    .exitOverride()
    .configureOutput({ writeOut: (text) => program.out(text), writeErr: () => undefined });
}

/** Flags and operands; wrong usage is reported and thrown as Exit. */
export function parseVerb<Flags>(
  command: Command,
  argv: readonly string[],
  program: ProgramContext,
): { readonly flags: Flags; readonly operands: readonly string[] } {
  try {
    command.parse([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed') throw new Exit(0);
    throw new Exit(program.usageError(inQemusWords(error)));
  }
  // commander takes -5 for a number; for getopt it is an option like any other.
  const negative = command.args.find((operand) => /^-\d/.test(operand));
  if (negative !== undefined && !argv.includes('--')) {
    throw new Exit(program.usageError(`unrecognized option '${negative}'`));
  }
  return { flags: command.opts() as Flags, operands: command.args };
}

function inQemusWords(error: CommanderError): string {
  const named = /'([^']*)'/.exec(error.message)?.[1] ?? '';
  if (error.code === 'commander.unknownOption') return `unrecognized option '${named}'`;
  if (error.code === 'commander.optionMissingArgument') {
    return `missing argument for option '${named.split(/[ ,]/)[0]}'`;
  }
  return error.message.replace(/^error: /, '');
}

/** For options that may be repeated. */
export const collect = (value: string, list: readonly string[]): readonly string[] => [
  ...list,
  value,
];

/** The image that the operand means, with `--image-opts` or `-f`. */
export function namedImage(
  operand: string,
  flags: { readonly imageOpts?: boolean; readonly format?: string },
): { readonly filename: string; readonly format?: string } {
  if (!flags.imageOpts) {
    return { filename: operand, ...(flags.format !== undefined && { format: flags.format }) };
  }
  if (flags.format !== undefined) {
    throw new ImageError('invalid', '--image-opts and --format are mutually exclusive');
  }
  return filenameFromImageOpts(operand);
}

/**
 * `--object`: only secrets are known, for images that need one. Those are refused as unsupported
 * when they are opened, so that a secret given for nothing does no harm.
 */
export function parseObject(text: string): void {
  const [type = '', ...rest] = text.split(',');
  const name = type.replace(/^qom-type=/, '');
  if (name !== 'secret') {
    throw new ImageError('invalid', `Parameter 'qom-type' does not accept value '${name}'`);
  }
  const members = new Map(rest.map((part) => splitOnce(part, '=')));
  if (!members.has('id')) throw new ImageError('invalid', "Parameter 'id' is missing");
  if (!members.has('file') && !members.has('data')) {
    throw new ImageError('invalid', "Either 'file' or 'data' must be provided");
  }
  if (members.has('file') && members.has('data')) {
    throw new ImageError('invalid', "'file' and 'data' are mutually exclusive");
  }
}

/** `--image-opts`: driver=qcow2,file.filename=NAME, file.driver=file or host_device. */
function filenameFromImageOpts(text: string): {
  readonly filename: string;
  readonly format?: string;
} {
  const members = new Map<string, string>();
  // Two commas stand for one.
  for (const part of text.split(/(?<!,),(?!,)/)) {
    const [key, value] = splitOnce(part.replaceAll(',,', ','), '=');
    members.set(key, value);
  }
  const fail = (message: string) =>
    new ImageError('invalid', `Could not open '${text}': ${message}`);
  const driver = members.get('driver');
  const filename = members.get('file.filename') ?? members.get('filename');
  const protocol = members.get('file.driver') ?? 'file';
  if (filename === undefined && driver === undefined && !text.includes('=')) {
    throw fail(`Cannot find device='${text}' nor node-name='${text}'`);
  }
  if (filename === undefined) throw fail('A block device must be specified for "file"');
  if (protocol !== 'file' && protocol !== 'host_device') {
    throw fail(`Unknown driver '${protocol}'`);
  }
  const known = ['driver', 'file.filename', 'filename', 'file.driver'];
  for (const key of members.keys()) {
    if (!known.includes(key)) throw fail(`The option '${key}' is not supported`);
  }
  return { filename, ...(driver !== undefined && { format: driver }) };
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
