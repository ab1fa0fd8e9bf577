// A command as QMP knows it.

import type { Schema } from './schema.ts';

/** What comes back; members that are undefined are left out. */
export type Reply = object | string | undefined;

export interface Command {
  readonly arguments: Schema<unknown>;
  /** Undefined comes back as an empty object. Throws `QmpError` and `ImageError`. */
  run(given: unknown): Promise<Reply> | Reply;
}

/** Ties what is run to what the arguments are read as. */
export function command<T>(schema: Schema<T>, run: (given: T) => Promise<Reply> | Reply): Command {
  return { arguments: schema, run: (given) => run(given as T) };
}

/** Nothing comes back but that it is done. */
export function acting<T>(schema: Schema<T>, act: (given: T) => Promise<void> | void): Command {
  return command(schema, async (given) => {
    await act(given);
    return undefined;
  });
}

export type CommandTable = ReadonlyMap<string, Command>;
