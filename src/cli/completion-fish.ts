// Completion for fish: `qimg-ts completion fish | source`.

import type { OptionRow, Value, VerbRow } from './completion-table.ts';

export function fishScript(name: string, verbs: readonly VerbRow[]): string {
  const lines = verbs.flatMap((verb) => [
    `complete -c ${name} -f -n __fish_use_subcommand -a ${verb.name} -d ${quote(verb.about)}`,
    ...verb.options.map((option) => optionLine(name, verb.name, option)),
    `complete -c ${name} -n ${within(verb.name)} ${argument(verb.operand)}`.trimEnd(),
  ]);
  return `# ${name} completion for fish: ${name} completion fish | source\n${lines.join('\n')}\n`;
}

const within = (verb: string): string => quote(`__fish_seen_subcommand_from ${verb}`);

function optionLine(name: string, verb: string, { names, about, value }: OptionRow): string {
  const words = names.map((each) =>
    each.startsWith('--') ? `-l ${each.slice(2)}` : `-s ${each.slice(1)}`,
  );
  const takes = value === null ? '' : ` -r ${argument(value)}`;
  const start = `complete -c ${name} -n ${within(verb)}`;
  return `${start} ${words.join(' ')}${takes.trimEnd()} -d ${quote(about)}`;
}

function argument(value: Value): string {
  if (value.kind === 'words') return `-f -a ${quote(value.words.join(' '))}`;
  if (value.kind === 'directory') return "-f -a '(__fish_complete_directories)'";
  return value.kind === 'file' ? '-F' : '-f';
}

function quote(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
