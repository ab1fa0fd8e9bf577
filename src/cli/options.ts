// Options of a verb, read by commander, with QEMU's words for what is wrong with them.

import { Command } from 'commander';
import { ImageError } from '../errors.ts';
import type { CacheMode } from '../io/host.ts';
import { getopt, type OptionSpec, UsageError, type Words } from './getopt.ts';
import { splitOnce, splitOptions } from './option-list.ts';
import type { ProgramContext } from './program.ts';
import { closest } from './suggest.ts';

/** Thrown when the verb has said all there is to say: with this exit code. */
export class Exit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

/** Thrown instead of running a verb that was asked for its definition. */
export class Definition extends Error {
  readonly command: Command;
  constructor(command: Command) {
    super('the definition of a verb');
    this.command = command;
  }
}

/** `operands`: as the help shows them; parseVerb passes on any number of them. */
export function newCommand(program: ProgramContext, verb: string, operands: string): Command {
  return new Command(`${program.name} ${verb}`)
    .usage(`[OPTIONS] ${operands}`)
    .allowExcessArguments()
    .helpOption('-h, --help', 'show this help')
    .exitOverride();
}

/** Flags and operands; wrong usage is reported and thrown as Exit. */
export function parseVerb<Flags>(
  command: Command,
  argv: readonly string[],
  program: ProgramContext,
): { readonly flags: Flags; readonly operands: readonly string[] } {
  if (program.definitionOnly) throw new Definition(command);
  const { options, operands } = takeApart(command, argv, program);
  if (options.some(({ long }) => long === HELP.long)) {
    program.out(command.helpInformation());
    throw new Exit(0);
  }
  const words = options.map(({ long, value }) =>
    value === undefined ? `--${long}` : `--${long}=${value}`,
  );
  command.parse([...words, '--', ...operands], { from: 'user' });
  return { flags: command.opts() as Flags, operands };
}

const HELP: OptionSpec = { short: 'h', long: 'help', takesValue: false };

/** commander is given each option by its long name: it is not as lenient as getopt. */
function takeApart(command: Command, argv: readonly string[], program: ProgramContext): Words {
  const specs = command.options.map(
    ({ short, long, required }): OptionSpec => ({
      short: short?.slice(1),
      long: long?.slice(2) ?? '',
      takesValue: required,
    }),
  );
  const verb = command.name().split(' ').at(-1) ?? '';
  try {
    return getopt(argv, [...specs, HELP], verb, HELP.long);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const meant = program.asQemu ? undefined : closestOption(error.message, specs);
    const question = meant === undefined ? '' : `\nDid you mean '${meant}'?`;
    throw new Exit(program.usageError(error.message + question));
  }
}

/** For long options alone: a single letter is near to any other. */
function closestOption(message: string, specs: readonly OptionSpec[]): string | undefined {
  const name = /^unrecognized option '--([^=]*)/.exec(message)?.[1] ?? '';
  // What is known was used wrongly, not mistyped.
  const known = specs.map(({ long }) => long).filter((long) => long !== name);
  const meant = closest(name, known);
  return meant && `--${meant}`;
}

/** For options that may be repeated. */
export const collect = (value: string, list: readonly string[] = []): readonly string[] => [
  ...list,
  value,
];

/** As `-t` and `-T` take them. */
export const CACHE_MODES: readonly string[] = [
  'none',
  'off',
  'directsync',
  'writeback',
  'unsafe',
  'writethrough',
];

export function toCacheMode(word: string): CacheMode {
  return (word === 'off' ? 'none' : word) as CacheMode;
}

export interface NamedImage {
  readonly filename: string;
  readonly format?: string;
  /** What the user wrote: messages begin with it. */
  readonly label: string;
  /** A key was given for an encrypted image. */
  readonly hasKey: boolean;
}

/** The image that the operand means, with `--image-opts` or `-f`. */
export function namedImage(
  operand: string,
  flags: { readonly imageOpts?: boolean; readonly format?: string },
): NamedImage {
  if (!flags.imageOpts) {
    const format = flags.format !== undefined && { format: flags.format };
    return { filename: operand, label: operand, hasKey: false, ...format };
  }
  if (flags.format !== undefined) {
    throw new ImageError('invalid', '--image-opts and --format are mutually exclusive');
  }
  return imageFromOpts(operand);
}

/**
 * `--object`: only secrets are known, for images that need one. Those are refused as unsupported
 * when they are opened, so that a secret given for nothing does no harm.
 */
export function parseObjects(texts: readonly string[] = []): void {
  for (const text of texts) parseObject(text);
}

function parseObject(text: string): void {
  const [type = '', ...rest] = splitOptions(text);
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

const IMAGE_OPTS: readonly string[] = [
  'driver',
  'encrypt.format',
  'encrypt.key-secret',
  'file.driver',
  'file.filename',
  'filename',
];

/** `--image-opts`: driver=qcow2,file.filename=NAME, file.driver=file or host_device. */
function imageFromOpts(text: string): NamedImage {
  const members = new Map<string, string>();
  for (const part of splitOptions(text)) {
    const [key, value] = splitOnce(part, '=');
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
  for (const key of members.keys()) {
    if (!IMAGE_OPTS.includes(key)) throw fail(`The option '${key}' is not supported`);
  }
  const hasKey = members.has('encrypt.key-secret');
  return { filename, label: text, hasKey, ...(driver !== undefined && { format: driver }) };
}
