// Lists of options as QEMU takes them: name=value,name=value, where two commas in a value stand for
// one.

/** The members, with `,,` turned into `,`. */
export function splitOptions(text: string): string[] {
  const members: string[] = [];
  let member = '';
  for (let at = 0; at < text.length; at++) {
    const isComma = text[at] === ',';
    if (isComma && text[at + 1] !== ',') {
      members.push(member);
      member = '';
      continue;
    }
    member += text[at];
    // From the left: of three commas the first two are one, the third ends the member.
    if (isComma) at++;
  }
  return [...members, member];
}

/** Before and after the first separator; all and nothing without one. */
export function splitOnce(text: string, separator: string): readonly [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + separator.length)];
}

export interface NamedValue {
  readonly name: string;
  readonly value: string;
  /** Stood alone: `name` for on, `noname` for off. */
  readonly flag: boolean;
}

/** The members of a list of options. Names end at the first comma or equals sign, doubled or not. */
export function namedValues(text: string): readonly NamedValue[] {
  const values: NamedValue[] = [];
  for (let rest = text; rest !== ''; ) {
    const [name = ''] = /^[^,=]*/.exec(rest) ?? [];
    rest = rest.slice(name.length);
    if (rest.startsWith('=')) {
      const [raw = ''] = /^(?:,,|[^,])*/.exec(rest.slice(1)) ?? [];
      values.push({ name, value: raw.replaceAll(',,', ','), flag: false });
      rest = rest.slice(1 + raw.length);
    } else if (name.startsWith('no'))
      values.push({ name: name.slice(2), value: 'off', flag: true });
    else values.push({ name, value: 'on', flag: true });
    rest = rest.slice(1);
  }
  return values;
}

/** No member is left out at the start or the end. */
export function isOptionList(text: string): boolean {
  const commas = /,*$/.exec(text)?.[0].length ?? 0;
  return text !== '' && !text.startsWith(',') && commas % 2 === 0;
}

export function asksForHelp(text: string): boolean {
  return namedValues(text).some(({ name, flag }) => flag && (name === 'help' || name === '?'));
}
