// Completion for zsh: to be sourced, or put as _qimg-ts into a directory of $fpath.

import type { OptionRow, Value, VerbRow } from './completion-table.ts';

export function zshScript(name: string, verbs: readonly VerbRow[]): string {
  const fn = `_${name}`;
  return `#compdef ${name}
${fn}() {
  local context state state_descr line
  typeset -A opt_args
  local -a verbs
  verbs=(
${verbs.map((verb) => `    ${quote(`${verb.name}:${verb.about}`)}`).join('\n')}
  )
  _arguments -C '(- *)--help[show the commands]' '(- *)--version[show the version]' \\
    '1:command:->verb' '*::argument:->rest' && return
  case $state in
    verb) _describe command verbs ;;
    rest)
      case $words[1] in
${verbs.map(verbCase).join('\n')}
      esac ;;
  esac
}
if [ "$funcstack[1]" = ${fn} ]; then ${fn} "$@"; else compdef ${fn} ${name}; fi
`;
}

function verbCase({ name, options, operand }: VerbRow): string {
  const specs = [...options.flatMap(optionSpecs), quote(`*${action(operand, 'operand')}`)];
  return `        ${name}) _arguments -s \\\n${specs.map((spec) => `          ${spec}`).join(' \\\n')} ;;`;
}

function optionSpecs({ names, about, value, repeatable }: OptionRow): string[] {
  const text = about.replace(/[[\]\\:]/g, '\\$&');
  return names.map((each) => {
    const before = repeatable ? '*' : `(${names.join(' ')})`;
    const attached = value === null ? '' : each.startsWith('--') ? '=' : '+';
    const argument = value === null ? '' : action(value, each.replace(/^-+/, ''));
    return quote(`${before}${each}${attached}[${text}]${argument}`);
  });
}

function action(value: Value, label: string): string {
  if (value.kind === 'words') return `:${label}:(${value.words.join(' ')})`;
  const how = { file: '_files', directory: '_files -/', other: ' ' }[value.kind];
  return `:${label}:${how}`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
