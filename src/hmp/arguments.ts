// What follows a command's name on a line of the human monitor, read by the kinds that the command
// declares. Pure.

import type { Argument, Given, HmpCommand } from './command.ts';

/** What is wrong with a line, as it is printed. */
export class LineError extends Error {}

/** The rest of a line, taken from the left. */
class Rest {
  text: string;

  constructor(text: string) {
    this.text = text.trimEnd();
  }

  skipSpace(): void {
    this.text = this.text.trimStart();
  }

  take(length: number): string {
    const taken = this.text.slice(0, length);
    this.text = this.text.slice(length);
    return taken;
  }
}

/** Throws `LineError`. */
export function readArguments(command: HmpCommand, line: string): Given {
  const rest = new Rest(line);
  const given: Record<string, string | number | boolean | undefined> = {};
  command.arguments.forEach((argument, i) => {
    const later = command.arguments.slice(i + 1);
    rest.skipSpace();
    if (argument.kind === 'flag') given[argument.name] = takeFlag(command, argument, later, rest);
    else if (rest.text === '' && argument.optional) given[argument.name] = undefined;
    else given[argument.name] = takeValue(command, argument, rest);
  });
  rest.skipSpace();
  if (rest.text !== '') {
    throw new LineError(`${command.name}: extraneous characters at the end of line`);
  }
  return given;
}

function takeFlag(
  { name }: HmpCommand,
  { letter }: Argument,
  later: readonly Argument[],
  rest: Rest,
): boolean {
  if (!rest.text.startsWith('-')) return false;
  const [, found = ''] = rest.text;
  if (found === letter) {
    rest.take(2);
    return true;
  }
  if (later.some((each) => each.kind === 'flag' && each.letter === found)) return false;
  throw new LineError(`${name}: unsupported option -${found}`);
}

function takeValue({ name }: HmpCommand, { kind }: Argument, rest: Rest): string | number {
  if (kind === 'size') return takeSize(rest);
  const text = takeText(rest);
  if (text !== undefined) return text;
  throw new LineError(`${name}: ${kind === 'device' ? 'block device name' : 'string'} expected`);
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  '\\': '\\',
  "'": "'",
  '"': '"',
};

/** A word, or what stands in double quotes; undefined where there is none. */
function takeText(rest: Rest): string | undefined {
  if (!rest.text.startsWith('"')) {
    const word = rest.take(/^\S*/.exec(rest.text)?.[0].length ?? 0);
    return word === '' ? undefined : word;
  }
  const quoted = /^"((?:[^"\\]|\\.)*)"/.exec(rest.text);
  if (quoted === null) return undefined;
  const [whole, inside = ''] = quoted;
  if (/\\[^nr\\'"]/.test(inside.replaceAll('\\\\', ''))) return undefined;
  rest.take(whole.length);
  return inside.replace(/\\(.)/g, (_, letter: string) => ESCAPES[letter] ?? letter);
}

const UNITS = 'bkmgtpe';
const MAX = 2 ** 63;

/** Bytes; a number alone counts MiB. */
function takeSize(rest: Rest): number {
  const [whole, digits, unit = 'm'] = /^(\d+(?:\.\d+)?)([bkmgtpe]?)(?=\s|$)/i.exec(rest.text) ?? [];
  const power = UNITS.indexOf((unit || 'm').toLowerCase());
  const bytes = Number(digits) * 1024 ** power;
  if (whole === undefined || !(bytes < MAX)) throw new LineError('invalid size');
  rest.take(whole.length);
  return Math.floor(bytes);
}
