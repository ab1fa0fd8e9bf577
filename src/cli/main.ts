// The command line: finds the verb and loads what it needs, no more.

import { loadSyscalls } from '../io/syscalls.ts';
import { usage } from './as-qemu.ts';
import { getopt, type OptionSpec, UsageError } from './getopt.ts';
import { Exit, HelpWanted, WholeUsage } from './options.ts';
import { type ProgramContext, processContext, reportError, STORAGE_DAEMON } from './program.ts';
import { closest } from './suggest.ts';
import { VERBS, type VerbEntry, verbsOf } from './verbs.ts';
import { QEMU_VERSION, VERSION } from './version.ts';

function help(program: ProgramContext): string {
  if (program.asQemu)
    return usage(
      version(program),
      verbsOf(program).map(([name]) => name),
    );
  const verbs = verbsOf(program).map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`);
  return [
    `usage: ${program.name} COMMAND [OPTIONS]`,
    '',
    'Commands:',
    ...verbs,
    '',
    `'${program.name} COMMAND --help' tells the options of a command.`,
    '',
  ].join('\n');
}

const HELP: OptionSpec = { short: 'h', long: 'help', takesValue: false };
const SHOW_VERSION: OptionSpec = { short: 'V', long: 'version', takesValue: false };
const TRACE: OptionSpec = { short: 'T', long: 'trace', takesValue: true };

/** Answers an option before the command; undefined where the command is still to come. */
function beforeVerb(words: readonly string[], program: ProgramContext): number | undefined {
  const specs = [HELP, SHOW_VERSION, ...(program.asQemu ? [TRACE] : [])];
  for (const { long } of getopt(words, specs, '', undefined).options) {
    if (long === TRACE.long) continue;
    program.out(long === HELP.long ? help(program) : version(program));
    return 0;
  }
  return undefined;
}

/** The words before the command (with the values of options), and the rest. */
function splitAtVerb(
  argv: readonly string[],
  program: ProgramContext,
): readonly [readonly string[], readonly string[]] {
  let count = 0;
  while (argv[count]?.startsWith('-') && argv[count] !== '-') {
    const word = argv[count++];
    if (word === '--') break;
    if (program.asQemu && /^(-T|--t(r(a(ce?)?)?)?)$/.test(word ?? '')) count++;
  }
  return [argv.slice(0, count), argv.slice(count)];
}

/** Scripts look for the version of QEMU whose behaviour they can count on. */
function version({ name, asQemu }: ProgramContext): string {
  return asQemu
    ? `${name} version ${QEMU_VERSION} (qimg-ts ${VERSION})\n`
    : `${name} version ${VERSION}\n`;
}

function unknownVerb(name: string, program: ProgramContext): number {
  const known = program.asQemu ? [] : verbsOf(program).map(([verb]) => verb);
  const meant = closest(name, known);
  const question = meant === undefined ? '' : `\nDid you mean '${meant}'?`;
  return program.usageError(`Command not found: ${name}${question}`);
}

export async function main(argv: readonly string[], program: ProgramContext): Promise<number> {
  if (program.name === STORAGE_DAEMON) return await runVerb(VERBS['storage-daemon'], argv, program);
  const [options, [name, ...rest]] = splitAtVerb(argv, program);
  try {
    const answered = beforeVerb(options, program);
    if (answered !== undefined) return answered;
    if (name === undefined) return program.usageError('Not enough arguments');
    const verb = verbsOf(program).find(([known]) => known === name)?.[1];
    return verb === undefined ? unknownVerb(name, program) : await runVerb(verb, rest, program);
  } catch (error) {
    if (error instanceof UsageError) return program.usageError(error.message);
    throw error;
  }
}

async function runVerb(
  verb: VerbEntry | undefined,
  argv: readonly string[],
  program: ProgramContext,
): Promise<number> {
  try {
    (await loadSyscalls())?.limitArenas(1);
    return (await (await verb?.load())?.(argv, program)) ?? 1;
  } catch (error) {
    if (error instanceof UsageError) return program.usageError(error.message);
    if (error instanceof WholeUsage) {
      program.out(help(program));
      return 0;
    }
    if (error instanceof HelpWanted) program.out(await error.command.help());
    return error instanceof Exit ? error.code : reportError(error, program);
  }
}

// All is written and closed by now: taking Node.js apart in order would only take time.
void main(process.argv.slice(2), processContext()).then((code) => process.exit(code));
