// What the terminal on stdout can show: whether it is one, its width, colours; and text fitted to it.

import { isatty } from 'node:tty';

export interface Terminal {
  readonly isTerminal: boolean;
  readonly columns: number;
  readonly colours: boolean;
}

const DEFAULT_COLUMNS = 80;

export function stdoutTerminal(env: NodeJS.ProcessEnv): Terminal {
  const isTerminal = isatty(1);
  const columns = (isTerminal ? process.stdout.columns : 0) || Number(env['COLUMNS']);
  const known = Number.isInteger(columns) && columns > 0;
  return {
    isTerminal,
    columns: known ? columns : DEFAULT_COLUMNS,
    colours: wantsColours(env, isTerminal),
  };
}

/** FORCE_COLOR before NO_COLOR, as Node.js itself has it; an empty variable says nothing. */
export function wantsColours(env: NodeJS.ProcessEnv, isTerminal: boolean): boolean {
  const { FORCE_COLOR: force = '', NO_COLOR: no = '', TERM: term } = env;
  if (force !== '') return force !== '0' && force !== 'false';
  return isTerminal && no === '' && term !== 'dumb';
}

export type Paint = (codes: string, text: string) => string;

export function painter(on: boolean): Paint {
  return (codes, text) => (on && text !== '' ? `\x1b[${codes}m${text}\x1b[0m` : text);
}

/** Names come from image headers: nothing in them may steer the terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, '\u{fffd}');
}

const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

function charWidth(char: string): number {
  if (/\p{Mn}/u.test(char)) return 0;
  return WIDE.test(char) ? 2 : 1;
}

/** Columns that a text takes. */
export function widthOf(text: string): number {
  let width = 0;
  for (const char of text) width += charWidth(char);
  return width;
}

/** Exactly `columns` wide: filled up, or cut in the middle, where names differ least. */
export function fitTo(text: string, columns: number): string {
  const missing = columns - widthOf(text);
  if (missing >= 0) return text + ' '.repeat(missing);
  const chars = [...text];
  const head = takeColumns(chars, Math.ceil((columns - 1) / 2));
  const tail = takeColumns(chars.reverse(), columns - 1 - widthOf(head));
  const cut = `${head}…${[...tail].reverse().join('')}`;
  return cut + ' '.repeat(Math.max(0, columns - widthOf(cut)));
}

function takeColumns(chars: readonly string[], columns: number): string {
  let taken = '';
  let width = 0;
  for (const char of chars) {
    width += charWidth(char);
    if (width > columns) break;
    taken += char;
  }
  return taken;
}

/** Lines of at most `columns`, broken at blanks where there are any; all begin with `indent`. */
export function wrap(text: string, columns: number, indent: string): readonly string[] {
  const room = Math.max(10, columns - indent.length);
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && widthOf(line) + 1 + widthOf(word) > room) {
      lines.push(indent + line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, indent + line];
}
