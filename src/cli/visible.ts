// Text out of an image, for people: what would move the cursor, hide other text or look like a line
// of ours is shown as what it is.

import type { Description, Value } from './describe-image.ts';

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;
const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

export function visible(text: string): string {
  return text.replace(INVISIBLE, (char) => {
    const point = char.codePointAt(0) ?? 0;
    // A byte of a name that is not UTF-8.
    const code = point >= 0xdc80 && point <= 0xdcff ? point - 0xdc00 : point;
    const hex = code.toString(16);
    return SHORT[char] ?? (code < 256 ? `\\x${hex.padStart(2, '0')}` : `\\u{${hex}}`);
  });
}

/** The same for all strings in it, those of its keys left as they are. */
export function visibleIn(value: Description): Description {
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, shown(each)]));
}

function shown(value: Value): Value {
  if (typeof value === 'string') return visible(value);
  if (Array.isArray(value)) return value.map(shown);
  return typeof value === 'object' ? visibleIn(value as Description) : value;
}
