// The rules of blkdebug as they are written down: in a description, or in a file of sections.

import { ImageError } from '../errors.ts';
import { type DebugRule, REQUEST_KINDS } from '../io/blkdebug.ts';
import { STORAGE_EVENTS } from '../io/events.ts';
import { SECTOR } from '../units.ts';
import { OptionDict } from './option-dict.ts';

const KINDS = ['inject-error', 'set-state'] as const;
type Kind = (typeof KINDS)[number];
const MEMBERS: Readonly<Record<Kind, readonly string[]>> = {
  'inject-error': ['event', 'state', 'iotype', 'errno', 'sector', 'once', 'immediately'],
  'set-state': ['event', 'state', 'new_state'],
};

const invalid = (message: string) => new ImageError('invalid', message);

/** `inject-error.0.event` and so on, taken out of the options. */
export function takeRules(options: OptionDict): readonly DebugRule[] {
  return KINDS.flatMap((kind) => {
    const listed = options.takeBelow(`${kind}.`);
    const rules: DebugRule[] = [];
    for (let index = 0; ; index++) {
      if (listed.has(`${index}`)) {
        throw invalid(`[${kind}] section (index ${index}) does not consist of keys`);
      }
      const members = listed.takeBelow(`${index}.`);
      if (members.size === 0) break;
      const unknown = members.keys().find((key) => !MEMBERS[kind].includes(key));
      if (unknown !== undefined) {
        throw invalid(`[${kind}] section doesn't support the option '${unknown}'`);
      }
      rules.push(ruleOf(kind, members));
    }
    const [unused] = listed.keys();
    // A list that was given without any index is let pass.
    if (unused !== undefined && /^\d/.test(unused)) {
      throw invalid(`Unused option '${unused}' for [${kind}]`);
    }
    return rules;
  });
}

/** The sections of a configuration file, one a rule. */
export function parseRules(text: string): readonly DebugRule[] {
  const sections: { readonly kind: Kind; readonly members: OptionDict }[] = [];
  for (const line of text.split('\n')) {
    const trimmed = line.trimStart();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const group = /^\[([\w-]+)(?: "[^"]*")?\]/.exec(line)?.[1];
    if (group !== undefined) {
      const kind = KINDS.find((each) => each === group);
      if (kind === undefined) throw invalid(`There is no option group '${group}'`);
      sections.push({ kind, members: new OptionDict() });
      continue;
    }
    const member = /^\s*(\S+)(?:\s*=\s*"([^"]*)")?/.exec(line);
    const section = sections.at(-1);
    if (section === undefined) throw invalid('no group defined');
    const [, name = '', value = ''] = member ?? [];
    if (!MEMBERS[section.kind].includes(name)) throw invalid(`Invalid parameter '${name}'`);
    section.members.set(name, value);
  }
  const byKind = (kind: Kind) => sections.filter((section) => section.kind === kind);
  return KINDS.flatMap(byKind).map(({ kind, members }) => ruleOf(kind, members));
}

function ruleOf(kind: Kind, members: OptionDict): DebugRule {
  const event = members.takeOneOf('event', STORAGE_EVENTS);
  if (event === undefined) throw invalid('Missing event name for rule');
  const state = members.takeNumber('state') ?? 0;
  if (kind === 'set-state') {
    return { kind, event, state, newState: members.takeNumber('new_state') ?? 0 };
  }
  const errno = members.takeNumber('errno') ?? EIO;
  const sector = members.takeNumber('sector') ?? -1;
  const requests = members.takeOneOf('iotype', REQUEST_KINDS) ?? null;
  const once = members.takeBool('once') ?? false;
  members.takeBool('immediately');
  const offset = sector === -1 ? null : sector * SECTOR;
  return { kind, event, state, errno: errnoName(errno), requests, offset, once };
}

const EIO = 5;

/** By Linux's numbers; those that no request for data fails with count as an I/O error. */
const ERRNO: Readonly<Record<number, string>> = {
  1: 'EPERM',
  2: 'ENOENT',
  4: 'EINTR',
  5: 'EIO',
  6: 'ENXIO',
  9: 'EBADF',
  11: 'EAGAIN',
  12: 'ENOMEM',
  13: 'EACCES',
  16: 'EBUSY',
  17: 'EEXIST',
  19: 'ENODEV',
  20: 'ENOTDIR',
  21: 'EISDIR',
  22: 'EINVAL',
  23: 'ENFILE',
  24: 'EMFILE',
  26: 'ETXTBSY',
  27: 'EFBIG',
  28: 'ENOSPC',
  30: 'EROFS',
  36: 'ENAMETOOLONG',
  40: 'ELOOP',
  95: 'EOPNOTSUPP',
  122: 'EDQUOT',
};

function errnoName(number: number): string | null {
  return number === 0 ? null : (ERRNO[number] ?? 'EIO');
}
