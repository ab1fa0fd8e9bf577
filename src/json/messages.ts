// A stream of JSON values, as QMP's clients send them: where one ends, and what is wrong with it.

import { ImageError } from '../errors.ts';
import { JsonLexer, MAX_TOKEN_BYTES, type Stray } from './lexer.ts';
import { type JsonOf, parseTokens, type Token } from './parser.ts';

/** Integers are kept apart from other numbers, and as they are. */
export type WireValue = JsonOf<number | bigint>;

export type Message =
  | { readonly value: WireValue; readonly error?: undefined }
  | { readonly error: string };

const MAX_TOKENS = 2 * 1024 * 1024;
const MAX_NESTING = 1024;

export class MessageStream {
  readonly #emit: (message: Message) => void;
  readonly #lexer = new JsonLexer((met) => this.#take(met));
  #tokens: Token[] = [];
  #bytes = 0;
  #braces = 0;
  #brackets = 0;

  constructor(emit: (message: Message) => void) {
    this.#emit = emit;
  }

  /** Calls `emit` for each value that is whole now, and for each mistake. */
  feed(bytes: Uint8Array): void {
    this.#lexer.feed(bytes);
  }

  #take(met: Token | Stray): void {
    if (met.kind === 'stray') this.#fail(`JSON parse error, stray '${met.text}'`);
    else if (met.kind === 'too-long') this.#fail('JSON token size limit exceeded');
    else this.#add(met);
  }

  #add(token: Token): void {
    this.#count(token);
    const exceeded = this.#exceeds(token);
    if (exceeded !== undefined) {
      this.#fail(`JSON ${exceeded} limit exceeded`);
      return;
    }
    this.#bytes += token.text.length;
    this.#tokens.push(token);
    const open = this.#braces > 0 || this.#brackets > 0;
    if (!open || this.#braces < 0 || this.#brackets < 0) this.#finish();
  }

  #exceeds({ text }: Token): string | undefined {
    if (this.#bytes + text.length + 1 > MAX_TOKEN_BYTES) return 'token size';
    if (this.#tokens.length + 1 > MAX_TOKENS) return 'token count';
    return this.#braces + this.#brackets > MAX_NESTING ? 'nesting depth' : undefined;
  }

  #count({ kind, text }: Token): void {
    if (kind !== 'mark') return;
    if (text === '{') this.#braces++;
    else if (text === '}') this.#braces--;
    else if (text === '[') this.#brackets++;
    else if (text === ']') this.#brackets--;
  }

  #finish(): void {
    const tokens = this.#tokens;
    this.#reset();
    try {
      this.#emit({ value: parseTokens(tokens.values(), toNumber) });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      this.#emit({ error: error.message });
    }
  }

  #fail(error: string): void {
    this.#reset();
    this.#emit({ error });
  }

  #reset(): void {
    this.#tokens = [];
    this.#bytes = 0;
    this.#braces = 0;
    this.#brackets = 0;
  }
}

const MAX_UNSIGNED = 2n ** 64n;
const MIN_SIGNED = -(2n ** 63n);

/** Integers of 64 bits are bigint. */
function toNumber(text: string): number | bigint {
  if (/[.eE]/.test(text)) return Number(text);
  const integer = BigInt(text);
  return integer >= MIN_SIGNED && integer < MAX_UNSIGNED ? integer : Number(text);
}
