// Options of a verb, with QEMU's words for what is wrong with them.

import type { ChainTarget } from '../chain/open.ts';
import type { OptionDict } from '../chain/option-dict.ts';
import { ImageError } from '../errors.ts';
import type { CacheMode } from '../io/host.ts';
import { isLongOptionOfQemu } from './as-qemu.ts';
import { Command } from './command.ts';
import { getopt, type OptionSpec, UsageError, type Words } from './getopt.ts';
import { parseImageOpts } from './image-opts.ts';
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

/** Thrown where the usage text of all commands is to be shown, as QEMU does for each of them. */
export class WholeUsage extends Error {}

/** Thrown where help was asked for: its text is to be printed. */
export class HelpWanted extends Exit {
  readonly command: Command;
  constructor(command: Command) {
    super(0);
    this.command = command;
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
  return new Command(`${program.name} ${verb}`, operands);
}

/** Flags, operands, and options in their order; wrong usage is reported and thrown as Exit. */
export function parseVerb<Flags>(
  command: Command,
  argv: readonly string[],
  program: ProgramContext,
): Words & { readonly flags: Flags } {
  if (program.definitionOnly) throw new Definition(command);
  const { options, operands } = takeApart(command, argv, program);
  if (options.some(({ long }) => long === HELP.long)) {
    throw program.asQemu ? new WholeUsage() : new HelpWanted(command);
  }
  return { flags: command.valuesOf(options) as Flags, operands, options };
}

const HELP: OptionSpec = { short: 'h', long: 'help', takesValue: false };

function takeApart(command: Command, argv: readonly string[], program: ProgramContext): Words {
  const { verb } = command;
  const specs = command.specs.map((spec) => {
    const longHidden = program.asQemu && !isLongOptionOfQemu(verb, spec.long);
    return { ...spec, longHidden };
  });
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
  /** The operand; with `--image-opts` a name for messages alone. */
  readonly filename: string;
  readonly format?: string;
  /** What the user wrote: messages begin with it. */
  readonly label: string;
  /** A key was given for an encrypted image. */
  readonly hasKey: boolean;
  /** With `--image-opts`: what the operand means. */
  readonly options?: OptionDict;
}

/** What openChain takes. */
export function targetOf({ filename, options }: NamedImage): ChainTarget {
  return options ?? filename;
}

/** The image that the operand means, with `--image-opts` or `-f`. */
export function namedImage(
  operand: string,
  flags: { readonly imageOpts?: boolean; readonly format?: string; readonly forceShare?: boolean },
  program?: ProgramContext,
): NamedImage {
  if (!flags.imageOpts) {
    const format = flags.format !== undefined && { format: flags.format };
    return { filename: operand, label: operand, hasKey: false, ...format };
  }
  if (flags.format !== undefined) {
    throw new ImageError('invalid', '--image-opts and --format are mutually exclusive');
  }
  const { options, warnings } = parseImageOpts(operand);
  for (const warning of warnings) program?.err(`${program.name}: warning: ${warning}\n`);
  const share = options.get('force-share');
  if (flags.forceShare && share !== undefined && share !== 'on') {
    throw new ImageError('invalid', '--force-share/-U conflicts with image options');
  }
  const hasKey = options.has('encrypt.key-secret');
  return { filename: operand, label: operand, hasKey, options };
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
  if (name === '') throw new ImageError('invalid', "Parameter 'qom-type' is missing");
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
