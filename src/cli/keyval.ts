// Options as `a.b=value,c=value`, which stand for nested objects and lists; or JSON. QEMU's words for
// what is wrong.

import { MessageStream, type WireValue } from '../json/messages.ts';
import { parseJson } from '../json/parser.ts';
import { QmpError } from '../qmp/errors.ts';
import { readArguments, type Schema } from '../qmp/schema.ts';

type Node = Map<string, Node | string>;

/** Reads `text` as the schema has it. `implied`: the name of a first value without one. */
export function readOptions<T>(schema: Schema<T>, text: string, implied?: string): T {
  if (text.startsWith('{')) return readArguments(schema, fromJson(text));
  return readArguments(schema, parseKeyval(text, implied), true);
}

function fromJson(text: string): WireValue {
  // As a value alone it is checked by the same words as everywhere.
  parseJson(text);
  let value: WireValue = null;
  const stream = new MessageStream((message) => {
    if (message.error !== undefined) throw new QmpError(message.error);
    value = message.value;
  });
  stream.feed(new TextEncoder().encode(`${text}\n`));
  return value;
}

/** Nested objects and lists, whose values are texts. */
export function parseKeyval(text: string, implied?: string): WireValue {
  const root: Node = new Map();
  let rest = text;
  for (let first = true; rest !== ''; first = false) {
    const [member = ''] = /^(?:,,|[^,])*/.exec(rest) ?? [];
    rest = rest.slice(member.length + 1);
    const at = member.indexOf('=');
    if (at >= 0) put(root, member.slice(0, at), member.slice(at + 1).replaceAll(',,', ','));
    else if (first && implied !== undefined) put(root, implied, member.replaceAll(',,', ','));
    else throw new QmpError(`Expected '=' after parameter '${member}'`);
  }
  return finished(root, '');
}

const FRAGMENT = /^(?:[a-z][\w-]*|\d+|__[a-z0-9.-]+_[\w-]+)$/i;

function put(root: Node, key: string, value: string): void {
  const names = key.split('.');
  if (!names.every((name) => FRAGMENT.test(name))) throw new QmpError(`Invalid parameter '${key}'`);
  const last = names.pop() ?? '';
  let node = root;
  for (const [i, name] of names.entries()) {
    const next = node.get(name) ?? new Map();
    if (typeof next === 'string') throw inconsistent(names.slice(0, i + 1));
    node.set(name, next);
    node = next;
  }
  if (node.get(last) instanceof Map) throw inconsistent([...names, last]);
  node.set(last, value);
}

const inconsistent = (names: readonly string[]) =>
  new QmpError(`Parameters '${names.join('.')}.*' used inconsistently`);

/** Members that are numbered make a list. */
function finished(node: Node, path: string): WireValue {
  const members = [...node].map(
    ([name, value]) =>
      [name, typeof value === 'string' ? value : finished(value, `${path}${name}.`)] as const,
  );
  const numbered = members.filter(([name]) => /^\d+$/.test(name));
  if (numbered.length === 0) return Object.fromEntries(members);
  if (numbered.length < members.length) throw inconsistent([path.slice(0, -1)]);
  const byNumber = new Map(numbered.map(([name, value]) => [Number(name), value]));
  return numbered.map((_, i) => {
    const value = byNumber.get(i);
    if (value === undefined) throw new QmpError(`Parameter '${path}${i}' missing`);
    return value;
  });
}
