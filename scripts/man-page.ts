// The manual page: options from the verbs' own definitions, the rest from here. Text in, roff out.

import type { VerbDefinition } from '../src/cli/definitions.ts';

const DESCRIPTION = `qimg-ts works on chains of qcow2 images: overlays that stand on backing files.
It shows what the layers of a chain hold, merges layers down into a base, and describes, checks and
creates images. Options, words and exit codes are those of qemu-img(1) 7.2; started through a link
named qemu-img, it keeps to what QEMU prints.`;

/** What a verb does, beyond the line in its help. */
const ABOUT: Readonly<Record<string, string>> = {
  bitmap: `Operations are carried out in their order; those before one that is refused stay done.
--merge may be given more than once. A bitmap that is in use because it was not stored can only be
removed.`,
  chain: `Draws a strip for each layer, as wide as the terminal, the top first: what the layer holds
and the guest sees, what a layer above hides, zeros, and what can't be known. The last row shows which
layer the guest sees where, by the number in front of the layer's name. Below it, for each layer: sizes,
the name under which its overlay knows it, other images that stand on it, and what is wrong with it,
with what to do next. A chain that is broken is shown as far as it can be read; the exit code is 1
then.

The members of the JSON output are stable: virtual-size, broken, and layers, top first, each with depth,
filename, stored-name, format, format-origin (given, stored or probed), virtual-size, cluster-size,
file-length, actual-size (null where the layer could not be opened), data-bytes, hidden-data-bytes,
zero-bytes, hidden-zero-bytes, unknown-bytes, siblings, and problems with kind, severity (error where
the guest could not read all of its disk, else warning), message and hint. Kinds are missing, loop,
too-deep, busy, unreadable, corrupt, dirty, truncated, damaged, unsupported and format-not-stored.`,
  commit: `What the layers above the base hold moves down into the base. Whatever stops it, whenever,
the guest's view through FILENAME stays the same; the same command run again finishes it. It refuses,
before the first write, what would lose data: see the README.

With --output=json each line of stdout is an object whose type is plan, progress (done, total, rate in
bytes and bytes per second, seconds-left or null; at most ten a second), warning (message), result (base,
relinks, empties, invalidates, deletes) or error (code, message, hint). With --dry-run it is the plan
alone.

Persistent bitmaps of the base that record mark what is written; others stay. With --bitmaps, those of
the uppermost merged layer that record, and their namesakes below it, become part of the base's bitmap of
that name, which is made where there is none. Bitmaps that are left out are named.`,
  completion: `For bash: eval "$(qimg-ts completion bash)". For zsh, after compinit: eval "$(qimg-ts
completion zsh)". For fish: qimg-ts completion fish | source.`,
};

const EXIT: readonly (readonly [string, string])[] = [
  ['0', 'Done.'],
  ['1', 'Refused or failed: the reason is on stderr. For chain also: the chain is broken.'],
  ['2, 3, 63', 'For check: corruptions, leaks only, a format that can not be checked.'],
  ['130, 143', 'Stopped by SIGINT, by SIGTERM.'],
];

const ENVIRONMENT: readonly (readonly [string, string])[] = [
  ['COLUMNS', 'The width of what chain draws, where stdout is not a terminal.'],
  ['FORCE_COLOR', 'Colours although stdout is no terminal; 0 for none. Goes before NO_COLOR.'],
  ['NO_COLOR', 'Not empty: no colours.'],
  ['QIMG_STRICT', 'As 1: also under the name qemu-img the refusals that QEMU does not have.'],
  ['QIMG_TS_NO_SYSCALLS', 'As 1: works without system calls that Node.js lacks.'],
];

const SIGNALS: readonly (readonly [string, string])[] = [
  ['SIGINT, SIGTERM', 'Stop a commit at a safe point.'],
  ['SIGUSR1', 'A commit prints one line of progress.'],
];

const EXAMPLES: readonly (readonly [string, string])[] = [
  ['qimg-ts chain --svg chain.svg top.qcow2', 'Show a chain, and draw it.'],
  ['qimg-ts commit -p top.qcow2', 'Merge the top into its backing file.'],
  ['qimg-ts commit --dry-run -b base.qcow2 --relink top.qcow2', 'What would be done.'],
];

export function manPage(version: string, date: string, verbs: readonly VerbDefinition[]): string {
  return [
    `.\\" Made by npm run man from the definitions of the commands: do not edit.`,
    `.TH QIMG\\-TS 1 ${date} "qimg\\-ts ${version}" "User Commands"`,
    '.SH NAME',
    'qimg\\-ts \\- show, merge, describe, check and create qcow2 image chains',
    '.SH SYNOPSIS',
    verbs.map(({ name, command }) => synopsis(name, command.usage())).join('\n.br\n'),
    '.SH DESCRIPTION',
    ...paragraphs(DESCRIPTION),
    '.SH COMMANDS',
    ...verbs.flatMap(verbSection),
    ...list('EXIT STATUS', EXIT),
    ...list('ENVIRONMENT', ENVIRONMENT),
    ...list('SIGNALS', SIGNALS),
    ...list('EXAMPLES', EXAMPLES),
    '.SH SEE ALSO',
    '.BR qemu\\-img (1)',
    '',
  ].join('\n');
}

function synopsis(name: string, usage: string): string {
  return `.B qimg\\-ts ${roff(name)}\n${roff(usage)}`;
}

function verbSection({ name, about, command }: VerbDefinition): string[] {
  return [
    `.SS "${roff(name)}"`,
    ...paragraphs(sentence(about)),
    ...(ABOUT[name] === undefined ? [] : ['.PP', ...paragraphs(ABOUT[name])]),
    ...command.options.flatMap(({ flags, description, defaultValue }) => {
      const standard = typeof defaultValue === 'string' ? ` (default: ${defaultValue})` : '';
      return ['.TP', `.B "${roff(flags)}"`, ...folded(sentence(description + standard))];
    }),
  ];
}

function list(title: string, rows: readonly (readonly [string, string])[]): string[] {
  const items = rows.flatMap(([term, text]) => ['.TP', `.B "${roff(term)}"`, ...folded(text)]);
  return [`.SH ${title}`, ...items];
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`.replace(/\.\.$/, '.');
}

/** Filled by the formatter: each sentence on a line of its own, as roff wants it. */
function paragraphs(text: string): string[] {
  return text.split('\n\n').flatMap((paragraph, i) => {
    const lines = paragraph.replaceAll('\n', ' ').split(/(?<=[.;]) +(?=[A-Z])/);
    return [...(i > 0 ? ['.PP'] : []), ...lines.flatMap(folded)];
  });
}

/** In lines of at most 80 bytes, once dashes are escaped. */
function folded(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = `${lines.at(-1) ?? ''} ${word}`;
    if (lines.length > 0 && roff(line).length <= 80) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  return lines.map(roff);
}

/** Dashes that can be copied into a shell; nothing that roff takes for a request. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('"', '\\(dq')
    .replace(/^([.'])/, '\\&$1');
}
