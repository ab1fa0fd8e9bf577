// Standard output as the C library has it where it is no terminal: in whole blocks, the rest at the
// end, so that what goes to standard error meanwhile stands before it.

const BLOCK = 4096;
/** Longer texts are not turned into bytes in one go. */
const PIECE = 1024 * 1024;

/** Keeps less than a block; `flush` writes the rest. */
export class BlockOutput {
  readonly #write: (bytes: Uint8Array) => void;
  #kept: Buffer[] = [];
  #length = 0;

  constructor(write: (bytes: Uint8Array) => void) {
    this.#write = write;
  }

  add(text: string): void {
    for (let at = 0; at < text.length; ) {
      const end = at + PIECE;
      // The two halves of a character stay together.
      const next = /[\ud800-\udbff]/.test(text.charAt(end - 1)) ? end - 1 : end;
      this.#add(text.slice(at, next));
      at = next;
    }
  }

  #add(text: string): void {
    const bytes = Buffer.from(text);
    this.#kept.push(bytes);
    this.#length += bytes.length;
    if (this.#length >= BLOCK) this.#writeUpTo(this.#length - (this.#length % BLOCK));
  }

  flush(): void {
    this.#writeUpTo(this.#length);
  }

  #writeUpTo(end: number): void {
    const bytes = Buffer.concat(this.#kept);
    this.#kept = [bytes.subarray(end)];
    this.#length -= end;
    if (end > 0) this.#write(bytes.subarray(0, end));
  }
}
