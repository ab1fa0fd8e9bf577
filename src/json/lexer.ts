// Splits a stream of bytes into the tokens of JSON as QEMU does, whatever the pieces that it comes in.
// After what is no token the rest is skipped up to where a value may begin.

import type { Token } from './parser.ts';

/** Longer tokens are taken for an attack. */
export const MAX_TOKEN_BYTES = 64 * 1024 * 1024;

/** What is met besides tokens. */
export type Stray =
  | { readonly kind: 'stray'; readonly text: string }
  | { readonly kind: 'too-long'; readonly text: '' };

const STATES = [
  'error',
  'recovery',
  'start',
  'double',
  'doubleEscape',
  'single',
  'singleEscape',
  'sign',
  'zero',
  'digits',
  'point',
  'fraction',
  'exponent',
  'exponentSign',
  'exponentDigits',
  'word',
  // Ends: with this byte, or (next) before it.
  'mark',
  'string',
  'space',
  'numberBefore',
  'wordBefore',
  'restart',
] as const;
type State = (typeof STATES)[number];

type Rule = readonly [fits: (byte: number) => boolean, next: State];

const between = (from: number, to: number) => (byte: number) => byte >= from && byte <= to;
const oneOf = (chars: string) => (byte: number) => chars.includes(String.fromCharCode(byte));

const DIGIT = between(0x30, 0x39);
const LETTER = between(0x61, 0x7a);
const MARK = oneOf('{}[],:');
const EXPONENT = oneOf('eE');
/** No control character, and nothing that can't be UTF-8. */
const TEXT = between(0x20, 0xfd);
const AFTER_NUMBER: Rule = [between(0, 0x7f), 'numberBefore'];

/** The first rule that fits tells; where none does, it is an error. */
const RULES: Readonly<Partial<Record<State, readonly Rule[]>>> = {
  recovery: [
    [MARK, 'restart'],
    [oneOf('\t'), 'recovery'],
    [TEXT, 'recovery'],
    [() => true, 'restart'],
  ],
  start: [
    [oneOf('"'), 'double'],
    [oneOf("'"), 'single'],
    [oneOf('0'), 'zero'],
    [DIGIT, 'digits'],
    [oneOf('-'), 'sign'],
    [MARK, 'mark'],
    [LETTER, 'word'],
    [oneOf(' \t\r\n'), 'space'],
  ],
  double: [
    [oneOf('\\'), 'doubleEscape'],
    [oneOf('"'), 'string'],
    [TEXT, 'double'],
  ],
  doubleEscape: [[TEXT, 'double']],
  single: [
    [oneOf('\\'), 'singleEscape'],
    [oneOf("'"), 'string'],
    [TEXT, 'single'],
  ],
  singleEscape: [[TEXT, 'single']],
  sign: [
    [oneOf('0'), 'zero'],
    [DIGIT, 'digits'],
  ],
  zero: [[DIGIT, 'error'], [oneOf('.'), 'point'], AFTER_NUMBER],
  digits: [[DIGIT, 'digits'], [EXPONENT, 'exponent'], [oneOf('.'), 'point'], AFTER_NUMBER],
  point: [[DIGIT, 'fraction']],
  fraction: [[DIGIT, 'fraction'], [EXPONENT, 'exponent'], AFTER_NUMBER],
  exponent: [
    [oneOf('+-'), 'exponentSign'],
    [DIGIT, 'exponentDigits'],
  ],
  exponentSign: [[DIGIT, 'exponentDigits']],
  exponentDigits: [[DIGIT, 'exponentDigits'], AFTER_NUMBER],
  word: [
    [LETTER, 'word'],
    [between(0, 0x7f), 'wordBefore'],
  ],
};

const indexOf = (state: State): number => STATES.indexOf(state);

/** For each state, and each byte: the next one. */
const TABLE: readonly Uint8Array[] = STATES.map((state) =>
  Uint8Array.from({ length: 256 }, (_, byte) => {
    const rule = RULES[state]?.find(([fits]) => fits(byte));
    return indexOf(rule?.[1] ?? 'error');
  }),
);

const START = indexOf('start');
const RECOVERY = indexOf('recovery');
const FIRST_END = indexOf('mark');

export class JsonLexer {
  readonly #emit: (met: Token | Stray) => void;
  #state = START;
  #bytes = new Uint8Array(64);
  #length = 0;

  constructor(emit: (met: Token | Stray) => void) {
    this.#emit = emit;
  }

  feed(bytes: Uint8Array): void {
    for (const byte of bytes) {
      // Where a byte ends what came before it, it is looked at again.
      while (!this.#take(byte));
      if (this.#length > MAX_TOKEN_BYTES) this.#giveUp();
    }
  }

  /** False where the byte is still to be taken. */
  #take(byte: number): boolean {
    const next = TABLE[this.#state]?.[byte] ?? 0;
    if (next >= FIRST_END) return this.#end(STATES[next] as State, byte);
    if (next === RECOVERY) return true;
    this.#add(byte);
    this.#state = next;
    if (next === 0) {
      this.#emit({ kind: 'stray', text: cString(this.#taken()) });
      this.#state = RECOVERY;
    }
    return true;
  }

  #end(state: State, byte: number): boolean {
    this.#state = START;
    if (state === 'restart') return false;
    if (state === 'numberBefore' || state === 'wordBefore') {
      const text = latin1(this.#taken());
      this.#emit({ kind: state === 'wordBefore' ? 'word' : 'number', text });
      return false;
    }
    this.#add(byte);
    const bytes = this.#taken();
    if (state === 'mark') this.#emit({ kind: 'mark', text: latin1(bytes) });
    else if (state === 'string') this.#emit(stringToken(bytes));
    return true;
  }

  #add(byte: number): void {
    if (this.#length === this.#bytes.length) {
      const longer = new Uint8Array(this.#length * 2);
      longer.set(this.#bytes);
      this.#bytes = longer;
    }
    this.#bytes[this.#length++] = byte;
  }

  /** What was added; from here on nothing is. */
  #taken(): Uint8Array {
    const taken = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    if (this.#bytes.length > 65_536) this.#bytes = new Uint8Array(64);
    return taken;
  }

  #giveUp(): void {
    this.#taken();
    this.#state = START;
    this.#emit({ kind: 'too-long', text: '' });
  }
}

function stringToken(bytes: Uint8Array): Token {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    return { kind: NO_CHARACTER.test(text) ? 'bytes' : 'string', text };
  } catch {
    return { kind: 'bytes', text: '' };
  }
}

/** Codes that Unicode keeps free of characters. */
const NO_CHARACTER = /[\ufdd0-\ufdef]|\p{Noncharacter_Code_Point}/u;

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, 4096));
}

/** Up to the first NUL. */
function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(
    end < 0 ? bytes : bytes.subarray(0, end),
  );
}
