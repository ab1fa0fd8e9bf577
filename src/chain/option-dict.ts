// Options of a description, flat: `file.driver` -> value. Each reader takes out what it knows; what
// is left in the end nobody knows. Texts and typed values mean the same.

import { ImageError } from '../errors.ts';
import type { JsonValue } from '../json/parser.ts';
import { inTableOrder } from '../json/printer.ts';
import { parseSize } from '../units.ts';

const invalid = (message: string) => new ImageError('invalid', message);

/** Empty lists and objects stay as they are; all others are taken apart. */
type Leaf = JsonValue;

export class OptionDict {
  readonly #entries: Map<string, Leaf>;

  constructor(entries: Iterable<readonly [string, Leaf]> = []) {
    this.#entries = new Map(entries);
  }

  /** Nested members win over dotted ones of the same name. */
  static fromObject(object: { readonly [key: string]: JsonValue }): OptionDict {
    const dict = new OptionDict();
    const nested: [string, JsonValue][] = [];
    const add = (key: string, value: JsonValue): void => {
      const members = isContainer(value) ? Object.entries(value as object) : [];
      if (members.length === 0) dict.#entries.set(key, value);
      for (const [name, member] of members) add(`${key}.${name}`, member as JsonValue);
    };
    for (const [key, value] of Object.entries(object)) {
      if (isContainer(value)) nested.push([key, value]);
      else if (value !== undefined) dict.#entries.set(key, value);
    }
    for (const [key, value] of nested) add(key, value);
    return dict;
  }

  get size(): number {
    return this.#entries.size;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  get(key: string): Leaf | undefined {
    return this.#entries.get(key);
  }

  set(key: string, value: Leaf): void {
    this.#entries.set(key, value);
  }

  copy(): OptionDict {
    return new OptionDict(this.#entries);
  }

  /** A copy that has those of `other` too, where it has none of that name. */
  joined(other: OptionDict): OptionDict {
    return new OptionDict([...other.#entries, ...this.#entries]);
  }

  /** The keys that nobody has taken, in QEMU's order. */
  keys(): readonly string[] {
    // Within one bucket of its table the newest comes first.
    return inTableOrder([...this.#entries.keys()].reverse());
  }

  /** Those below `prefix` (with its dot), named without it; they are gone here then. */
  takeBelow(prefix: string): OptionDict {
    const below = new OptionDict();
    for (const [key, value] of this.#entries) {
      if (!key.startsWith(prefix)) continue;
      below.#entries.set(key.slice(prefix.length), value);
      this.#entries.delete(key);
    }
    return below;
  }

  /** As a member of the description: kept as it was given. */
  takeRaw(key: string): Leaf | undefined {
    const value = this.#entries.get(key);
    this.#entries.delete(key);
    return value;
  }

  /** A string; what is something else does not count. */
  takeString(key: string): string | undefined {
    const value = this.#entries.get(key);
    if (typeof value !== 'string') return undefined;
    this.#entries.delete(key);
    return value;
  }

  /** As text, whatever it was; null and empty containers count as not there. */
  takeText(key: string): string | undefined {
    const value = this.takeRaw(key);
    if (value === undefined || isContainer(value) || value === null) return undefined;
    return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
  }

  takeBool(key: string): boolean | undefined {
    const text = this.takeText(key);
    if (text === undefined) return undefined;
    if (/^(on|yes|true|y)$/.test(text)) return true;
    if (/^(off|no|false|n)$/.test(text)) return false;
    throw invalid(`Parameter '${key}' expects 'on' or 'off'`);
  }

  /** Bytes. */
  takeSize(key: string): number | undefined {
    const text = this.takeText(key);
    if (text === undefined) return undefined;
    const size = parseSize(text);
    if (size === undefined) {
      throw invalid(
        `Parameter '${key}' expects a non-negative number below 2^64\n` +
          'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n' +
          'and exabytes, respectively.',
      );
    }
    return size;
  }

  takeNumber(key: string): number | undefined {
    const text = this.takeText(key);
    if (text === undefined) return undefined;
    if (!/^\s*[+-]?(0x[0-9a-f]+|\d+)$/i.test(text)) {
      throw invalid(`Parameter '${key}' expects a number`);
    }
    const sign = /^\s*-/.test(text) ? -1 : 1;
    return sign * Number(text.replace(/^\s*[+-]?/, ''));
  }

  takeOneOf<T extends string>(key: string, words: readonly T[]): T | undefined {
    const text = this.takeText(key);
    if (text === undefined) return undefined;
    const word = words.find((each) => each === text);
    if (word === undefined) throw invalid(`invalid parameter value: ${text}`);
    return word;
  }
}

function isContainer(value: JsonValue | undefined): boolean {
  return typeof value === 'object' && value !== null;
}
