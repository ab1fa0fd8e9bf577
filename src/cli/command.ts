// The options of a verb: defined, and given values. commander, which lays out the help, is loaded for
// that alone: it takes longer than everything else that a short command does.

import type { Met, OptionSpec } from './getopt.ts';

/** What becomes of an option's value, when the option is met. */
export interface Reader {
  /** The option may be given again. */
  readonly repeatable: boolean;
  /** `before`: what was read when it was met the last time. May throw. */
  read(value: string, before: unknown): unknown;
}

/** What was given so far, by name. */
export type Values = Record<string, unknown>;

interface Option {
  /** As commander takes it: `-f, --format <fmt>`. */
  readonly flags: string;
  readonly about: string;
  readonly spec: OptionSpec;
  /** The name among the flags: `rateLimit` for `--rate-limit`. */
  readonly name: string;
  readonly reader: Reader | undefined;
  readonly fallback: string | undefined;
}

export interface DefinedOption {
  /** `-f, --format <fmt>`. */
  readonly flags: string;
  readonly description: string;
  /** With its dash. */
  readonly short: string | undefined;
  /** With its dashes. */
  readonly long: string;
  readonly required: boolean;
  readonly repeatable: boolean;
  readonly defaultValue: string | undefined;
}

export class Command {
  readonly #name: string;
  readonly #operands: string;
  #about = '';
  readonly #options: Option[] = [];

  /** `name`: program and verb. `operands`: as the help shows them. */
  constructor(name: string, operands: string) {
    this.#name = name;
    this.#operands = operands;
  }

  /** The verb. */
  get verb(): string {
    return this.#name.split(' ').at(-1) ?? '';
  }

  description(text: string): this {
    this.#about = text;
    return this;
  }

  /** `rest`: a value for when it is not given, or what reads the values that are. */
  option(flags: string, about: string, rest?: string | Reader): this {
    const match = /^(?:-(\w), )?--([\w-]+)( <.*>)?$/.exec(flags);
    if (match === null) throw new Error(`internal error: option ${flags}`);
    const [, short, long = '', value] = match;
    this.#options.push({
      flags,
      about,
      spec: { short, long, takesValue: value !== undefined },
      name: long.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase()),
      reader: typeof rest === 'object' ? rest : undefined,
      fallback: typeof rest === 'string' ? rest : undefined,
    });
    return this;
  }

  /** For what is made from the definitions: completion, the manual. */
  get options(): readonly DefinedOption[] {
    return this.#options.map(({ flags, about, spec, reader, fallback }) => ({
      flags,
      description: about,
      short: spec.short === undefined ? undefined : `-${spec.short}`,
      long: `--${spec.long}`,
      required: spec.takesValue,
      repeatable: reader?.repeatable === true,
      defaultValue: fallback,
    }));
  }

  usage(): string {
    return `[OPTIONS] ${this.#operands}`;
  }

  get specs(): readonly OptionSpec[] {
    return this.#options.map(({ spec }) => spec);
  }

  /** What those have that are not given. */
  fallbacks(): Values {
    const given = this.#options.filter(({ fallback }) => fallback !== undefined);
    return Object.fromEntries(given.map(({ name, fallback }) => [name, fallback]));
  }

  /** Adds what an option says. */
  take({ long, value }: Met, values: Values): void {
    const option = this.#options.find(({ spec }) => spec.long === long);
    if (option === undefined) return;
    const { name, reader } = option;
    if (value === undefined) values[name] = true;
    else values[name] = reader === undefined ? value : reader.read(value, values[name]);
  }

  async help(): Promise<string> {
    const commander = await import('commander');
    const command = new commander.Command(this.#name)
      .usage(this.usage())
      .description(this.#about)
      .helpOption('-h, --help', 'show this help');
    for (const { flags, about, fallback } of this.#options) {
      command.option(flags, about, fallback);
    }
    return command.helpInformation();
  }
}
