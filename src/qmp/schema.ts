// What the arguments of a command may be, declared; and the checks, in the order and in the words of
// QEMU. The same schemas read options of a command line, where all values are texts.

import type { WireValue } from '../json/messages.ts';
import type { JsonValue } from '../json/parser.ts';
import { inTableOrder } from '../json/printer.ts';
import { QmpError } from './errors.ts';

/** Where in the arguments a value stands. */
export interface Place {
  /** Its own name; null for an item of a list. */
  readonly name: string | null;
  /** With the names of all that it is in: `addr.data.path`. */
  readonly full: string;
  /** Numbers and truth values are texts. */
  readonly asText: boolean;
}

export interface Schema<T> {
  /** A member of this kind may be left out. */
  readonly optional?: true;
  read(value: WireValue, place: Place): T;
}

/** A member that may be left out; undefined then. */
export interface Optional<T> extends Schema<T> {
  readonly optional: true;
}

export type Fields = Readonly<Record<string, Schema<unknown>>>;

type ReadAs<S> = S extends Schema<infer T> ? T : never;
type OptionalKeys<F> = { [K in keyof F]: F[K] extends Optional<unknown> ? K : never }[keyof F];
/** What an object of such fields is read as. */
export type FieldsOf<F> = {
  readonly [K in Exclude<keyof F, OptionalKeys<F>>]: ReadAs<F[K]>;
} & { readonly [K in OptionalKeys<F>]?: ReadAs<F[K]> };

type WireObject = { readonly [key: string]: WireValue };

const wrongType = ({ full }: Place, expected: string) =>
  new QmpError(`Invalid parameter type for '${full}', expected: ${expected}`);
const unfit = (name: string, expected: string) =>
  new QmpError(`Parameter '${name}' expects ${expected}`);

export function optional<T>(schema: Schema<T>): Optional<T> {
  return { optional: true, read: (value, place) => schema.read(value, place) };
}

export const text: Schema<string> = {
  read(value, place) {
    if (typeof value !== 'string') throw wrongType(place, 'string');
    return value;
  },
};

export const bool: Schema<boolean> = {
  read(value, place) {
    if (!place.asText) {
      if (typeof value !== 'boolean') throw wrongType(place, 'boolean');
      return value;
    }
    const word = text.read(value, place);
    if (/^(on|yes|true|y)$/.test(word)) return true;
    if (/^(off|no|false|n)$/.test(word)) return false;
    throw unfit(place.full, "'on' or 'off'");
  },
};

const INT64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n };

/** Of 64 bits; past 2^53 rounded. */
export const integer: Schema<number> = {
  read: (value, place) => Number(readInteger(value, place, 'integer')),
};

/** Of 64 bits without a sign; what is negative is told by `negative`, as it is kept by QEMU. */
export const unsigned = (bits: 16 | 32 | 64): Schema<number> => ({
  read(value, place) {
    const read = readInteger(value, place, bits === 64 ? 'uint64' : 'integer');
    const fits = BigInt.asUintN(bits, read) === read || bits === 64;
    if (!fits) throw unfit(place.name ?? 'null', `uint${bits}_t`);
    return Number(BigInt.asUintN(bits, read));
  },
});

/** As a number of bytes, with a suffix where it is a text. */
export const size: Schema<number> = {
  read(value, place) {
    if (!place.asText) return unsigned(64).read(value, place);
    const match = /^(\d+(?:\.\d+)?)([bkmgtpe]?)$/i.exec(text.read(value, place));
    if (match === null) throw unfit(place.full, 'a size value representible as a 64-bit integer');
    const [, digits, suffix = ''] = match;
    return Math.floor(
      Number(digits) * 1024 ** Math.max(0, 'bkmgtpe'.indexOf(suffix.toLowerCase())),
    );
  },
};

function readInteger(value: WireValue, place: Place, expected: 'integer' | 'uint64'): bigint {
  const max = expected === 'uint64' ? 2n ** 64n - 1n : INT64.max;
  if (place.asText) {
    const word = text.read(value, place);
    if (/^[+-]?(0x[\da-f]+|\d+)$/i.test(word)) {
      const whole = BigInt(word.replace(/^[+-]/, ''));
      const read = word.startsWith('-') ? -whole : whole;
      if (read >= INT64.min && read <= max) return read;
    }
    throw unfit(place.full, 'integer');
  }
  if (typeof value === 'number' && expected === 'uint64') throw unfit(place.full, expected);
  if (typeof value !== 'bigint' || value > max) throw wrongType(place, 'integer');
  return value;
}

export function oneOf<W extends string>(...words: readonly W[]): Schema<W> {
  return {
    read(value, place) {
      const word = text.read(value, place);
      const found = words.find((each) => each === word);
      if (found !== undefined) return found;
      const name = place.name ?? 'null';
      throw new QmpError(`Parameter '${name}' does not accept value '${word}'`);
    },
  };
}

/** Anything at all. */
export const any: Schema<JsonValue> = { read: (value) => plain(value) };

/** With integers as numbers. */
export function plain(value: WireValue): JsonValue {
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(
    Object.entries(value as WireObject).map(([key, each]) => [key, plain(each)]),
  );
}

export function list<T>(item: Schema<T>): Schema<readonly T[]> {
  return {
    read(value, place) {
      const items = place.asText ? listOfTexts(value) : value;
      if (!Array.isArray(items)) throw wrongType(place, 'array');
      const of = (each: WireValue, i: number) =>
        item.read(each, { ...place, name: null, full: `${place.full}[${i}]` });
      return items.map(of);
    },
  };
}

/** On a command line the items are members named by their numbers. */
function listOfTexts(value: WireValue): WireValue {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.values(value as WireObject);
}

/** What members there are beside those of all, by the value of one of them. */
export interface Branches {
  readonly by: string;
  readonly of: Readonly<Record<string, Fields>>;
}

export function object<F extends Fields>(fields: F): Schema<FieldsOf<F>> {
  return { read: (value, place) => readObject(value, place, fields) as FieldsOf<F> };
}

/** `fields` has the member that chooses the branch. */
export function union<F extends Fields>(
  fields: F,
  branches: Branches,
): Schema<FieldsOf<F> & { readonly [key: string]: unknown }> {
  return {
    read: (value, place) =>
      readObject(value, place, fields, branches) as FieldsOf<F> & { [key: string]: unknown },
  };
}

function readObject(
  value: WireValue,
  place: Place,
  fields: Fields,
  branches?: Branches,
): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrongType(place, 'object');
  }
  const members = new Map(Object.entries(value as WireObject));
  const read = takeFields(fields, members, place);
  if (branches !== undefined) {
    const branch = branches.of[String(read.get(branches.by))] ?? {};
    for (const [name, member] of takeFields(branch, members, place)) read.set(name, member);
  }
  const unexpected = firstOf([...members.keys()]);
  if (unexpected !== undefined) {
    throw new QmpError(`Parameter '${within(place, unexpected)}' is unexpected`);
  }
  return Object.fromEntries(read);
}

/** Sizes of a hash table of GLib as it grows, modulo which keys are entered. */
const TABLE_SIZES = [7, 13, 31, 61, 127];

/** Of several names that are unexpected, the one that QEMU comes upon: it keeps them in such a table. */
function firstOf(names: readonly string[]): string | undefined {
  const size = TABLE_SIZES.find((each) => each >= names.length) ?? 127;
  const place = (name: string) => (Math.imul(hashOf(name), 11) >>> 0) % size;
  // Entered in the order in which the arguments were kept: who comes second to a place moves on.
  const entered = [...inTableOrder([...names].reverse())];
  return entered.sort((a, b) => place(a) - place(b))[0];
}

function hashOf(name: string): number {
  let hash = 5381;
  for (const byte of new TextEncoder().encode(name)) hash = (Math.imul(hash, 33) + byte) >>> 0;
  return hash;
}

function takeFields(
  fields: Fields,
  members: Map<string, WireValue>,
  place: Place,
): Map<string, unknown> {
  const read = new Map<string, unknown>();
  for (const [name, schema] of Object.entries(fields)) {
    const value = members.get(name);
    const full = within(place, name);
    members.delete(name);
    if (value !== undefined) read.set(name, schema.read(value, { ...place, name, full }));
    else if (!schema.optional) throw new QmpError(`Parameter '${full}' is missing`);
  }
  return read;
}

function within({ full }: Place, name: string): string {
  return full === '' ? name : `${full}.${name}`;
}

/** For what is made of its own kind. */
export function lazy<T>(make: () => Schema<T>): Schema<T> {
  return { read: (value, place) => make().read(value, place) };
}

/** A value of one kind or another, told apart by its type. `name`: QEMU's for it. */
export function alternate<T, O>(
  name: string,
  choices: { readonly text?: Schema<T>; readonly object?: Schema<O>; readonly null?: true },
): Schema<T | O | null> {
  return {
    read(value, place) {
      if (typeof value === 'string' && choices.text) return choices.text.read(value, place);
      const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
      if (isObject && choices.object) return choices.object.read(value, place);
      if (value === null && choices.null) return null;
      throw wrongType(place, name);
    },
  };
}

/** Reads the arguments of a command. Throws `QmpError`. */
export function readArguments<T>(schema: Schema<T>, value: WireValue, asText = false): T {
  return schema.read(value, { name: '', full: '', asText });
}
