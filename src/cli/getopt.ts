// Command line words taken apart as getopt_long(3) does it: options and operands mixed, short ones
// in one word, values attached or not, long names cut short. Says what is wrong in QEMU's words.

export interface OptionSpec {
  /** Without its dash. */
  readonly short: string | undefined;
  /** Without its dashes. */
  readonly long: string;
  readonly takesValue: boolean;
  /** The long name is ours alone: on the command line there is only the short one, if any. */
  readonly longHidden?: boolean;
}

export interface Words {
  /** In their order. */
  readonly options: readonly { readonly long: string; readonly value: string | undefined }[];
  readonly operands: readonly string[];
}

export class UsageError extends Error {}

/** An option as it was met. */
export type Met = Words['options'][number];

/**
 * Takes `argv` apart; an option named in `stopAt` ends it, what follows is not looked at. `verb` is
 * the word before the first one. `onOption` hears of each option before the next one is looked at:
 * what it throws comes before any error of those.
 */
export function getopt(
  argv: readonly string[],
  specs: readonly OptionSpec[],
  verb: string,
  stopAt?: string,
  onOption: (option: Met) => void = () => undefined,
): Words {
  const options: Met[] = [];
  const operands: string[] = [];
  const rest = [...argv];
  let previous = verb;
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') {
      operands.push(...rest);
      break;
    }
    const before = operands.at(-1) ?? previous;
    previous = word;
    if (!word.startsWith('-') || word === '-') {
      operands.push(word);
      continue;
    }
    const found = word.startsWith('--')
      ? [longOption(word, specs)]
      : shortOptions(word, specs, before);
    for (const { long, value: attached, needsValue } of found) {
      const value = needsValue ? rest.shift() : attached;
      if (needsValue && value === undefined) throw missing(word);
      if (needsValue) previous = value ?? '';
      options.push({ long, value });
      if (long === stopAt) return { options, operands };
      onOption({ long, value });
    }
  }
  return { options, operands };
}

interface Found extends Met {
  /** The next word is its value. */
  readonly needsValue: boolean;
}

function longOption(word: string, specs: readonly OptionSpec[]): Found {
  const at = word.indexOf('=');
  const name = at < 0 ? word.slice(2) : word.slice(2, at);
  const value = at < 0 ? undefined : word.slice(at + 1);
  const matches = specs.filter(({ long, longHidden }) => !longHidden && long.startsWith(name));
  const spec = matches.find(({ long }) => long === name) ?? matches[0];
  const ambiguous = matches.length > 1 && spec?.long !== name;
  if (spec === undefined || ambiguous || (value !== undefined && !spec.takesValue)) {
    throw unrecognized(word);
  }
  return { long: spec.long, value, needsValue: spec.takesValue && value === undefined };
}

/** `-abVALUE`. getopt tells of a wrong letter inside a word by naming the word before it. */
function* shortOptions(
  word: string,
  specs: readonly OptionSpec[],
  before: string,
): Generator<Found> {
  for (let i = 1; i < word.length; i++) {
    const spec = specs.find(({ short }) => short === word[i]);
    if (spec === undefined) throw unrecognized(i + 1 < word.length ? before : word);
    const attached = word.slice(i + 1);
    if (spec.takesValue) {
      const value = attached === '' ? undefined : attached;
      yield { long: spec.long, value, needsValue: value === undefined };
      break;
    }
    yield { long: spec.long, value: undefined, needsValue: false };
  }
}

const unrecognized = (word: string) => new UsageError(`unrecognized option '${word}'`);
const missing = (word: string) => new UsageError(`missing argument for option '${word}'`);
