// The verbs' own definitions of their options, for what is made from them: completion, the manual.

import type { Command } from './command.ts';
import { Definition } from './options.ts';
import type { ProgramContext } from './program.ts';
import type { VerbEntry } from './verbs.ts';

/** Asks each verb, in their order; none of them runs. */
export async function definitionsOf(
  verbs: readonly (readonly [string, VerbEntry])[],
  program: ProgramContext,
): Promise<readonly VerbDefinition[]> {
  const asked = { ...program, definitionOnly: true };
  const definitions: VerbDefinition[] = [];
  for (const [name, { about, load }] of verbs) {
    const command = await commandOf((await load())([], asked));
    definitions.push({ name, about, command });
  }
  return definitions;
}

export interface VerbDefinition {
  readonly name: string;
  readonly about: string;
  readonly command: Command;
}

async function commandOf(run: Promise<number>): Promise<Command> {
  try {
    await run;
  } catch (error) {
    if (error instanceof Definition) return error.command;
    throw error;
  }
  throw new Error('internal error: a verb ran without parseVerb');
}
