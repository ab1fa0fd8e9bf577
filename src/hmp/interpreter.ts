// What a line of the human monitor means: the command, its help, or what is wrong, in QEMU's words.

import { LineError, readArguments } from './arguments.ts';
import { type HmpCommand, spellings } from './command.ts';

export interface InterpreterOptions {
  readonly commands: readonly HmpCommand[];
  /** The words for what a command throws; throws on what is none of its failures. */
  readonly errorText: (error: unknown) => string;
}

export class Interpreter {
  readonly #commands: readonly HmpCommand[];
  readonly #errorText: (error: unknown) => string;

  constructor({ commands, errorText }: InterpreterOptions) {
    const help: HmpCommand = {
      name: 'help|?',
      arguments: [],
      shown: '[cmd]',
      about: 'show the help',
    };
    const byName = (a: HmpCommand, b: HmpCommand) => (a.name < b.name ? -1 : 1);
    this.#commands = [...commands, help].sort(byName);
    this.#errorText = errorText;
  }

  /** What is printed; line breaks are `\r\n`. */
  async run(line: string): Promise<string> {
    return (await this.#output(line)).replaceAll('\n', '\r\n');
  }

  /** The names that begin so, for who asks for completion; those of `info` after it. */
  complete(line: string): readonly string[] {
    const words = line.trimStart().split(/\s+/);
    const [first = '', second] = words;
    if (words.length > 2) return [];
    const table = second === undefined ? this.#commands : (this.#named(first)?.below ?? []);
    return table.flatMap(spellings).filter((name) => name.startsWith(words.at(-1) ?? ''));
  }

  #named(name: string, among: readonly HmpCommand[] = this.#commands): HmpCommand | undefined {
    return among.find((command) => spellings(command).includes(name));
  }

  async #output(line: string): Promise<string> {
    const text = line.trimStart();
    if (text === '') return '';
    const found = this.#find(text);
    if (found.command === undefined) return `unknown command: '${found.consumed}'\n`;
    const { command, consumed } = found;
    const rest = text.slice(consumed.length);
    if (spellings(command).includes('help')) return this.#help(rest);
    if (command.run === undefined) return listed(command.below ?? [], `${command.name} `);
    try {
      return await command.run(readArguments(command, rest));
    } catch (error) {
      if (!(error instanceof LineError)) return this.#errorText(error);
      return `${error.message}\nTry "help ${consumed}" for more information\n`;
    }
  }

  /** `consumed`: the name as it was written. */
  #find(text: string): { readonly command: HmpCommand | undefined; readonly consumed: string } {
    const [name = ''] = /^\S*/.exec(text) ?? [];
    const command = this.#named(name);
    const [, word] = /^\s+(\S+)/.exec(text.slice(name.length)) ?? [];
    if (command?.below === undefined || word === undefined) return { command, consumed: name };
    const consumed = text.slice(0, text.indexOf(word, name.length) + word.length);
    return { command: this.#named(word, command.below), consumed };
  }

  #help(rest: string): string {
    const [name, second] = rest.trim().split(/\s+/);
    if (name === undefined || name === '') return listed(this.#commands, '');
    const command = this.#named(name);
    if (command === undefined) return `unknown command: '${name}'\n`;
    if (command.below === undefined) return listed([command], '');
    if (second === undefined) return listed(command.below, `${name} `);
    const below = this.#named(second, command.below);
    return below === undefined
      ? `unknown command: '${name} ${second}'\n`
      : listed([below], `${name} `);
  }
}

function listed(commands: readonly HmpCommand[], prefix: string): string {
  return commands
    .map(({ name, shown, about }) => `${prefix}${name} ${shown} -- ${about}\n`)
    .join('');
}
