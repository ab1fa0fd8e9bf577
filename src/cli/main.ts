// The command line: finds the verb and loads what it needs, no more.

import { Exit, HelpWanted } from './options.ts';
import { type ProgramContext, processContext, reportError } from './program.ts';

type Verb = (argv: readonly string[], program: ProgramContext) => Promise<number>;

const VERBS: Readonly<Record<string, { readonly about: string; load(): Promise<Verb> }>> = {
  check: {
    about: 'look for errors in an image, without changing it',
    load: async () => (await import('./check.ts')).runCheck,
  },
  commit: {
    about: 'merge the layers of a backing chain into its base',
    load: async () => (await import('./commit.ts')).runCommit,
  },
  create: {
    about: 'create an image',
    load: async () => (await import('./create.ts')).runCreate,
  },
  info: {
    about: 'describe an image or its whole backing chain',
    load: async () => (await import('./info.ts')).runInfo,
  },
};

const VERSION = '0.1.0';
/** The release that is imitated. */
const QEMU_VERSION = '7.2.0';

function help(program: ProgramContext): string {
  const verbs = Object.entries(VERBS).map(([name, { about }]) => `  ${name.padEnd(8)} ${about}`);
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

function beforeVerb(word: string, program: ProgramContext): number {
  if (/^(-h|--h(e(lp?)?)?)$/.test(word)) program.out(help(program));
  else if (/^(-V|--v(e(r(s(i(on?)?)?)?)?)?)$/.test(word)) program.out(version(program));
  else return program.usageError(`unrecognized option '${word}'`);
  return 0;
}

/** Scripts look for the version of QEMU whose behaviour they can count on. */
function version({ name, asQemu }: ProgramContext): string {
  return asQemu
    ? `${name} version ${QEMU_VERSION} (qimg-ts ${VERSION})\n`
    : `${name} version ${VERSION}\n`;
}

export async function main(argv: readonly string[], program: ProgramContext): Promise<number> {
  const [name, ...rest] = argv;
  try {
    if (name === undefined) return program.usageError('Not enough arguments');
    if (name.startsWith('-')) return beforeVerb(name, program);
    const verb = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
    if (verb === undefined) return program.usageError(`Command not found: ${name}`);
    return await (await verb.load())(rest, program);
  } catch (error) {
    if (error instanceof HelpWanted) program.out(await error.command.help());
    return error instanceof Exit ? error.code : reportError(error, program);
  }
}

void main(process.argv.slice(2), processContext()).then((code) => {
  process.exitCode = code;
});
