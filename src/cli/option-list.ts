// Lists of options as QEMU takes them: name=value,name=value, where two commas in a value stand for
// one.

/** The members, with `,,` turned into `,`. */
export function splitOptions(text: string): readonly string[] {
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
