// JSON as QEMU reads it: strings in either quotes, each key once. And with its words for what is wrong.

import { ImageError } from '../errors.ts';

/** A value whose numbers are of type `N`. */
export type JsonOf<N> =
  | string
  | boolean
  | null
  | N
  | readonly JsonOf<N>[]
  | { readonly [key: string]: JsonOf<N> };
export type JsonValue = JsonOf<number>;

/** Deeper nesting is taken for an attack. */
const MAX_DEPTH = 1024;

export interface Token {
  /** `bytes`: a string that is no text. */
  readonly kind: 'mark' | 'word' | 'string' | 'bytes' | 'number' | 'end';
  readonly text: string;
}

/** Throws `invalid`. */
export function parseJson(text: string): JsonValue {
  return parseTokens(tokensOf(text), Number);
}

/** One value, whose numbers are read by `toNumber`. Throws `invalid`. */
export function parseTokens<N>(tokens: Iterator<Token>, toNumber: (text: string) => N): JsonOf<N> {
  return new Parser(tokens, toNumber).whole();
}

const fail = (message: string) => new ImageError('invalid', message);
const parseError = (what: string) => fail(`JSON parse error, ${what}`);

const TOKEN =
  /[ \t\r\n]*(?:([{}[\]:,])|([a-z]+)|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\d.eE])|("(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*'))/y;

/** Split without looking at what comes where; ends with one token that says so. */
function* tokensOf(text: string): Generator<Token> {
  for (let at = 0; ; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) {
      const rest = text.slice(at).replace(/^[ \t\r\n]+/, '');
      if (rest !== '') throw parseError(`stray '${strayIn(rest)}'`);
      yield { kind: 'end', text: '' };
      return;
    }
    const [, mark, word, number, string] = match;
    const end = TOKEN.lastIndex;
    if (mark !== undefined) yield { kind: 'mark', text: mark };
    else if (word !== undefined) yield { kind: 'word', text: word };
    else if (number !== undefined) yield { kind: 'number', text: number };
    else yield { kind: 'string', text: string ?? '' };
    TOKEN.lastIndex = end;
  }
}

/** Up to where it was found to be no token. */
function strayIn(rest: string): string {
  if (/^["']/.test(rest)) return rest;
  return /^-?(?:0\d|\d+(?:\.\d*)?(?:[eE][+-]?)?[\s\S]?)/.exec(rest)?.[0] ?? rest.slice(0, 1);
}

class Parser<N> {
  readonly #tokens: Iterator<Token>;
  readonly #toNumber: (text: string) => N;
  #next: Token;

  constructor(tokens: Iterator<Token>, toNumber: (text: string) => N) {
    this.#tokens = tokens;
    this.#toNumber = toNumber;
    this.#next = this.#pull();
  }

  #pull(): Token {
    const { value, done } = this.#tokens.next();
    return done ? { kind: 'end', text: '' } : (value as Token);
  }

  whole(): JsonOf<N> {
    if (this.#atEnd) throw fail('Expecting a JSON value');
    const value = this.#value(0);
    if (!this.#atEnd) throw fail('Expecting at most one JSON value');
    return value;
  }

  get #atEnd(): boolean {
    return this.#next.kind === 'end';
  }

  #take(): Token {
    const token = this.#next;
    if (token.kind === 'end') throw parseError('premature EOI');
    this.#next = this.#pull();
    return token;
  }

  #accepts(mark: string): boolean {
    if (this.#next.kind !== 'mark' || this.#next.text !== mark) return false;
    this.#take();
    return true;
  }

  #expect(mark: string, otherwise: string): void {
    const { kind, text } = this.#take();
    if (kind !== 'mark' || text !== mark) throw parseError(otherwise);
  }

  #value(depth: number): JsonOf<N> {
    if (depth > MAX_DEPTH) throw parseError('nesting too deep');
    const { kind, text } = this.#take();
    if (kind === 'string') return unquote(text);
    if (kind === 'bytes') throw parseError('invalid UTF-8 sequence in string');
    if (kind === 'number') return this.#toNumber(text);
    if (kind === 'word') return keyword(text);
    if (text === '{') return this.#object(depth);
    if (text === '[') return this.#array(depth);
    throw parseError('expecting value');
  }

  #object(depth: number): JsonOf<N> {
    // A Map first: a key may be `__proto__`.
    const members = new Map<string, JsonOf<N>>();
    if (this.#accepts('}')) return {};
    do {
      if (this.#next.kind === 'mark') throw parseError('expecting value');
      const key = this.#value(depth + 1);
      if (typeof key !== 'string') throw parseError('key is not a string in object');
      this.#expect(':', 'missing : in object pair');
      const value = this.#value(depth + 1);
      if (members.has(key)) throw parseError('duplicate key');
      members.set(key, value);
    } while (this.#accepts(','));
    this.#expect('}', 'expected separator in dict');
    return Object.fromEntries(members);
  }

  #array(depth: number): JsonOf<N> {
    const items: JsonOf<N>[] = [];
    if (this.#accepts(']')) return items;
    do items.push(this.#value(depth + 1));
    while (this.#accepts(','));
    this.#expect(']', 'expected separator in list');
    return items;
  }
}

function keyword(word: string): boolean | null {
  if (word === 'true') return true;
  if (word === 'false') return false;
  if (word === 'null') return null;
  throw parseError(`invalid keyword '${word}'`);
}

const ESCAPES: Readonly<Record<string, string>> = {
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

/** One escape; with the next one, where only both together are a character. */
const ESCAPE = /\\(?:(u[dD][89abAB][\da-fA-F]{2}(?:\\u[\s\S]{0,4})?|u[\s\S]{0,4})|([\s\S]))/g;

function unquote(quoted: string): string {
  return quoted.slice(1, -1).replace(ESCAPE, (all, unicode?: string, char = '') => {
    if (unicode !== undefined) return character(all);
    if (/["'\\/]/.test(char)) return char;
    const meant = ESCAPES[char];
    if (meant === undefined) throw parseError('invalid escape sequence in string');
    return meant;
  });
}

const SECOND_HALF = /^[\udc00-\udfff]$/;
/** Codes that Unicode keeps free of characters. */
const NO_CHARACTER = /\p{Noncharacter_Code_Point}|\p{Surrogate}/u;

function character(sequence: string): string {
  const [own, next] = [sequence.slice(0, 6), sequence.slice(6)];
  const [first, second] = [codeUnit(own), next === '' ? '' : codeUnit(next)];
  // What is told of a pair names its first half alone, where the second is none.
  const isPair = second !== undefined && SECOND_HALF.test(second);
  const read = `${first}${second}`;
  if (first === undefined || (next !== '' && !isPair)) throw notUnicode(own);
  if (NO_CHARACTER.test(read)) throw notUnicode(sequence);
  return read;
}

const notUnicode = (sequence: string) => parseError(`${sequence} is not a valid Unicode character`);

/** Undefined where it is not made of four digits. */
function codeUnit(sequence: string): string | undefined {
  const code = /^\\u([0-9a-fA-F]{4})$/.exec(sequence)?.[1];
  return code === undefined ? undefined : String.fromCharCode(Number.parseInt(code, 16));
}
