// Completion for bash, 3.2 and later, without the bash-completion package.

import type { OptionRow, Value, VerbRow } from './completion-table.ts';

export function bashScript(name: string, verbs: readonly VerbRow[]): string {
  const fn = `_${name.replaceAll('-', '_')}`;
  const names = verbs.map((verb) => verb.name).join(' ');
  return `# ${name} completion for bash: eval "$(${name} completion bash)"
${fn}_add() { # kind, words
  local line
  case $1 in
    file) compopt -o filenames 2>/dev/null
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur") ;;
    directory) compopt -o filenames 2>/dev/null
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$cur") ;;
    words) while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -W "$2" -- "$cur") ;;
  esac
}
${fn}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} verb=\${COMP_WORDS[1]} option=
  COMPREPLY=()
  # --option=value comes in three words.
  if [[ $cur == = ]]; then
    cur= option=\${COMP_WORDS[COMP_CWORD-1]}
  elif [[ $COMP_CWORD -gt 2 && \${COMP_WORDS[COMP_CWORD-1]} == = ]]; then
    option=\${COMP_WORDS[COMP_CWORD-2]}
  elif [[ $COMP_CWORD -gt 2 ]]; then
    option=\${COMP_WORDS[COMP_CWORD-1]}
  fi
  if [[ $COMP_CWORD -eq 1 ]]; then
    ${fn}_add words "${names} --help --version"
    return
  fi
  case $verb in
${verbs.map((verb) => verbCase(fn, verb)).join('\n')}
  esac
}
complete -F ${fn} ${name}
`;
}

function verbCase(fn: string, { name, options, operand }: VerbRow): string {
  const values = options.flatMap((option) => valueCase(fn, option));
  const words = options.flatMap(({ names }) => names).join(' ');
  return `    ${name})
      case $option in
${values.map((line) => `        ${line}`).join('\n')}${values.length > 0 ? '\n' : ''}        *)
          if [[ $cur == -* ]]; then ${fn}_add words "${words}"
          else ${add(fn, operand)}; fi ;;
      esac ;;`;
}

function valueCase(fn: string, { names, value }: OptionRow): string[] {
  return value === null ? [] : [`${names.join('|')}) ${add(fn, value)} ;;`];
}

function add(fn: string, value: Value): string {
  if (value.kind === 'words') return `${fn}_add words "${value.words.join(' ')}"`;
  return value.kind === 'other' ? ':' : `${fn}_add ${value.kind}`;
}
