// The command line: finds the verb and loads what it needs, no more.

import { Exit } from './options.ts';
import { type ProgramContext, processContext, reportError } from './program.ts';
import { closest } from './suggest.ts';
import { verbsOf } from './verbs.ts';

const VERSION = '0.1.0';
/** The release that is imitated. */
const QEMU_VERSION = '7.2.0';

function help(program: ProgramContext): string {
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

function unknownVerb(name: string, program: ProgramContext): number {
  const known = program.asQemu ? [] : verbsOf(program).map(([verb]) => verb);
  const meant = closest(name, known);
  const question = meant === undefined ? '' : `\nDid you mean '${meant}'?`;
  return program.usageError(`Command not found: ${name}${question}`);
}

export async function main(argv: readonly string[], program: ProgramContext): Promise<number> {
  const [name, ...rest] = argv;
  try {
    if (name === undefined) return program.usageError('Not enough arguments');
    if (name.startsWith('-')) return beforeVerb(name, program);
    const verb = verbsOf(program).find(([known]) => known === name)?.[1];
    if (verb === undefined) return unknownVerb(name, program);
    return await (await verb.load())(rest, program);
  } catch (error) {
    return error instanceof Exit ? error.code : reportError(error, program);
  }
}

void main(process.argv.slice(2), processContext()).then((code) => {
  process.exitCode = code;
});
