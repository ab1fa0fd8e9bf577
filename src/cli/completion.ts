// qimg-ts completion: a script for bash, zsh or fish, made from the definitions of the verbs.

import { bashScript } from './completion-bash.ts';
import { fishScript } from './completion-fish.ts';
import { completionTable } from './completion-table.ts';
import { zshScript } from './completion-zsh.ts';
import { definitionsOf } from './definitions.ts';
import { newCommand, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';
import type { VerbEntry } from './verbs.ts';

const SHELLS = { bash: bashScript, zsh: zshScript, fish: fishScript };

/** The verbs are given: the table that names them loads this file. */
export async function runCompletion(
  verbs: readonly (readonly [string, VerbEntry])[],
  argv: readonly string[],
  program: ProgramContext,
): Promise<number> {
  const command = newCommand(program, 'completion', 'bash|zsh|fish').description(
    'Print what a shell needs to complete the command line, e.g. for bash: ' +
      `eval "$(${program.name} completion bash)"`,
  );
  const { operands } = parseVerb<object>(command, argv, program);
  const [shell = ''] = operands;
  if (operands.length !== 1 || !Object.hasOwn(SHELLS, shell)) {
    return program.usageError('Expecting the name of a shell: bash, zsh or fish');
  }
  const table = completionTable(await definitionsOf(verbs, program));
  program.out(SHELLS[shell as keyof typeof SHELLS](program.name, table));
  return 0;
}
