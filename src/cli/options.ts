// Options of a verb, with QEMU's words for what is wrong with them.

import type { ChainTarget } from '../chain/open.ts';
import type { OptionDict } from '../chain/option-dict.ts';
import { ImageError } from '../errors.ts';
import type { CacheMode } from '../io/host.ts';
import { isLongOptionOfQemu } from './as-qemu.ts';
import { Command, type Reader, type Values } from './command.ts';
import { getopt, type OptionSpec, UsageError, type Words } from './getopt.ts';
import { parseImageOpts } from './image-opts.ts';
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

export interface Parsed<Flags> extends Words {
  readonly flags: Flags;
}

/** Flags, operands, and options in their order; wrong usage is reported and thrown as Exit. */
export function parseVerb<Flags>(
  command: Command,
  argv: readonly string[],
  program: ProgramContext,
): Parsed<Flags> {
  if (program.definitionOnly) throw new Definition(command);
  const values = command.fallbacks();
  const { options, operands } = takeApart(command, argv, program, values);
  if (options.some(({ long }) => long === HELP.long)) {
    throw program.asQemu ? new WholeUsage() : new HelpWanted(command);
  }
  return { flags: values as Flags, operands, options };
}

const HELP: OptionSpec = { short: 'h', long: 'help', takesValue: false };

/** Values are read word by word: the first thing that is wrong is told, of whatever kind it is. */
function takeApart(
  command: Command,
  argv: readonly string[],
  program: ProgramContext,
  values: Values,
): Words {
  const { verb } = command;
  const specs = command.specs.map((spec) => {
    const longHidden = program.asQemu && !isLongOptionOfQemu(verb, spec.long);
    return { ...spec, longHidden };
  });
  try {
    return getopt(argv, [...specs, HELP], verb, HELP.long, (option) =>
      command.take(option, values),
    );
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

/** For options that may be repeated. `check` may throw. */
export const collected = (check: (value: string) => void): Reader => ({
  repeatable: true,
  read(value, before = []) {
    check(value);
    return [...(before as readonly string[]), value];
  },
});

export const collect = collected(() => undefined);

/** For options with a value of another kind, of which the last one counts. */
export const parsed = (parse: (value: string) => unknown): Reader => ({
  repeatable: false,
  read: parse,
});

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
    return { filename: operand, label: operand, ...format };
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
  return { filename: operand, label: operand, options };
}
