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

/**
 * Takes `argv` apart; an option named in `stopAt` ends it, what follows is not looked at. `verb` is
 * the word before the first one.
 */
export function getopt(
  argv: readonly string[],
  specs: readonly OptionSpec[],
  verb: string,
  stopAt?: string,
): Words {
  const options: { long: string; value: string | undefined }[] = [];
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
      ? longOption(word, specs)
      : shortOptions(word, specs, before);
    const last = found.at(-1);
    if (last?.needsValue) {
      last.value = rest.shift();
      if (last.value === undefined) throw missing(word);
      previous = last.value;
    }
    options.push(...found);
    if (found.some(({ long }) => long === stopAt)) break;
  }
  return { options, operands };
}

interface Found {
  readonly long: string;
  value: string | undefined;
  /** The next word is its value. */
  readonly needsValue: boolean;
}

function longOption(word: string, specs: readonly OptionSpec[]): readonly Found[] {
  const at = word.indexOf('=');
  const name = at < 0 ? word.slice(2) : word.slice(2, at);
  const value = at < 0 ? undefined : word.slice(at + 1);
  const matches = specs.filter(({ long, longHidden }) => !longHidden && long.startsWith(name));
  const spec = matches.find(({ long }) => long === name) ?? matches[0];
  const ambiguous = matches.length > 1 && spec?.long !== name;
  if (spec === undefined || ambiguous || (value !== undefined && !spec.takesValue)) {
    throw unrecognized(word);
  }
  return [{ long: spec.long, value, needsValue: spec.takesValue && value === undefined }];
}

/** `-abVALUE`. getopt tells of a wrong letter inside a word by naming the word before it. */
function shortOptions(
  word: string,
  specs: readonly OptionSpec[],
  before: string,
): readonly Found[] {
  const found: Found[] = [];
  for (let i = 1; i < word.length; i++) {
    const spec = specs.find(({ short }) => short === word[i]);
    if (spec === undefined) throw unrecognized(i + 1 < word.length ? before : word);
    const attached = word.slice(i + 1);
    if (spec.takesValue) {
      const value = attached === '' ? undefined : attached;
      found.push({ long: spec.long, value, needsValue: value === undefined });
      break;
    }
    found.push({ long: spec.long, value: undefined, needsValue: false });
  }
  return found;
}

const unrecognized = (word: string) => new UsageError(`unrecognized option '${word}'`);
const missing = (word: string) => new UsageError(`missing argument for option '${word}'`);
