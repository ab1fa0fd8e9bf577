// Command lines to advise, as a shell reads them.

/** A word for the shell. */
export function shellWord(word: string): string {
  return /^[\w./:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Makes `overlay` name its backing file and that one's format, without looking at the data. */
export function rebaseCommand(overlay: string, backing: string, format: string): string {
  return `qemu-img rebase -u -F ${format} -b ${shellWord(backing)} ${shellWord(overlay)}`;
}
