// Command lines to advise, as a shell reads them, and names in other advice.

import { onOneLine } from '../errors.ts';

/** A word for the shell; one with control characters as bash and zsh take them. */
export function shellWord(word: string): string {
  if (/\p{Cc}/u.test(word)) return `$'${word.replace(/[\p{Cc}\\']/gu, ansiC)}'`;
  return /^[\w./:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function ansiC(char: string): string {
  const code = char.charCodeAt(0);
  if (code > 0x7f) return `\\u${code.toString(16).padStart(4, '0')}`;
  if (char === "'" || char === '\\') return `\\${char}`;
  return char === '\n' ? '\\n' : `\\x${code.toString(16).padStart(2, '0')}`;
}

/** Tells the layers of a long chain apart. */
export function whichLayer(backing: string, above = ''): string {
  return onOneLine(`That is '${backing}', the backing file of '${above}'.`);
}

/** Makes `overlay` name its backing file and that one's format, without looking at the data. */
export function rebaseCommand(overlay: string, backing: string, format: string): string {
  return `qemu-img rebase -u -F ${format} -b ${shellWord(backing)} ${shellWord(overlay)}`;
}
