// Editing a line on a terminal at the other end of a stream of bytes, as QEMU's monitor does: what is
// typed is echoed by drawing the line anew. Knows no commands.

/** Longer lines are cut. */
const MAX_LINE = 4095;
const MAX_HISTORY = 64;

const CURSOR_LEFT = '\x1b[D';
const CURSOR_RIGHT = '\x1b[C';
const CLEAR_TO_END = '\x1b[K';
const CLEAR_SCREEN = '\x1b[2J\x1b[1;1H';

export interface EditorEvents {
  send(text: string): void;
  /** A line was entered. */
  enter(line: string): void;
  /** What the text before the cursor could be completed to. */
  complete(before: string): readonly string[];
}

type State = 'plain' | 'escape' | 'csi' | 'ss3';

/** Works on bytes, one character each; who enters a line gets it decoded. */
export class LineEditor {
  readonly #events: EditorEvents;
  readonly #prompt: string;
  #state: State = 'plain';
  #parameter = 0;
  #line = '';
  #cursor = 0;
  #shown = '';
  #shownCursor = 0;
  readonly #history: string[] = [];
  #recalled = -1;

  constructor(prompt: string, events: EditorEvents) {
    this.#prompt = prompt;
    this.#events = events;
  }

  /** Begins a line. */
  start(): void {
    this.#line = '';
    this.#cursor = 0;
    this.#recalled = -1;
    this.#showPrompt();
  }

  #showPrompt(): void {
    this.#events.send(this.#prompt);
    this.#shown = '';
    this.#shownCursor = 0;
  }

  feed(byte: number): void {
    if (this.#state === 'plain') this.#plain(byte);
    else if (this.#state === 'escape') this.#escape(byte);
    else if (this.#state === 'csi') this.#csi(byte);
    else this.#ss3(byte);
    this.#draw();
  }

  #plain(byte: number): void {
    const char = String.fromCharCode(byte);
    if (char === '\n' || char === '\r') this.#enter();
    else if (char === '\x1b') this.#state = 'escape';
    else if (byte === 0x9b) this.#beginCsi();
    else if (char in KEYS) this.#key(KEYS[char] as Key);
    else if (byte >= 0x20) this.#insert(char);
  }

  #escape(byte: number): void {
    const char = String.fromCharCode(byte);
    this.#state = char === 'O' ? 'ss3' : 'plain';
    if (char === '[') this.#beginCsi();
  }

  #beginCsi(): void {
    this.#state = 'csi';
    this.#parameter = 0;
  }

  #csi(byte: number): void {
    const char = String.fromCharCode(byte);
    if (/\d/.test(char)) {
      this.#parameter = (this.#parameter * 10 + Number(char)) % 1000;
      return;
    }
    this.#state = 'plain';
    const key = char === '~' ? TILDE_KEYS[this.#parameter] : CSI_KEYS[char];
    if (key !== undefined) this.#key(key);
  }

  #ss3(byte: number): void {
    this.#state = 'plain';
    const key = SS3_KEYS[String.fromCharCode(byte)];
    if (key !== undefined) this.#key(key);
  }

  #key(key: Key): void {
    const end = this.#line.length;
    if (key === 'start') this.#cursor = 0;
    else if (key === 'end') this.#cursor = end;
    else if (key === 'left') this.#cursor = Math.max(0, this.#cursor - 1);
    else if (key === 'right') this.#cursor = Math.min(end, this.#cursor + 1);
    else if (key === 'delete') this.#remove(this.#cursor, this.#cursor + 1);
    else if (key === 'backspace') this.#remove(this.#cursor - 1, this.#cursor);
    else if (key === 'word') this.#removeWord();
    else if (key === 'clear') this.#clear();
    else if (key === 'complete') this.#complete();
    else this.#recall(key === 'up' ? -1 : 1);
  }

  #insert(text: string): void {
    if (this.#line.length + text.length > MAX_LINE) return;
    this.#line = this.#line.slice(0, this.#cursor) + text + this.#line.slice(this.#cursor);
    this.#cursor += text.length;
  }

  #remove(from: number, to: number): void {
    if (from < 0) return;
    this.#line = this.#line.slice(0, from) + this.#line.slice(to);
    this.#cursor = from;
  }

  #removeWord(): void {
    const before = this.#line.slice(0, this.#cursor);
    this.#remove(before.replace(/\S*\s*$/, '').length, this.#cursor);
  }

  #clear(): void {
    this.#events.send(CLEAR_SCREEN);
    this.#showPrompt();
  }

  #enter(): void {
    const line = this.#line;
    if (line !== '') {
      const known = this.#history.indexOf(line);
      if (known >= 0) this.#history.splice(known, 1);
      this.#history.push(line);
      if (this.#history.length > MAX_HISTORY) this.#history.shift();
    }
    this.#line = '';
    this.#cursor = 0;
    this.#shown = '';
    this.#shownCursor = 0;
    this.#events.send('\r\n');
    this.#events.enter(new TextDecoder().decode(Uint8Array.from(line, (c) => c.charCodeAt(0))));
  }

  #recall(step: -1 | 1): void {
    const { length } = this.#history;
    const from = this.#recalled < 0 ? length : this.#recalled;
    const to = from + step;
    if (to < 0 || (to >= length && this.#recalled < 0)) return;
    this.#recalled = to >= length ? -1 : to;
    this.#line = this.#history[to] ?? '';
    this.#cursor = this.#line.length;
  }

  #complete(): void {
    const before = this.#line.slice(0, this.#cursor);
    const found = this.#events.complete(before);
    const [first] = found;
    if (first === undefined) return;
    const typed = /\S*$/.exec(before)?.[0].length ?? 0;
    if (found.length === 1) this.#insert(`${first.slice(typed)} `);
    else this.#offer(found, typed);
  }

  #offer(found: readonly string[], typed: number): void {
    const common = found.reduce((a, b) => {
      let same = 0;
      while (same < a.length && a[same] === b[same]) same++;
      return a.slice(0, same);
    });
    this.#insert(common.slice(typed));
    const width = Math.max(...found.map(({ length }) => length)) + 2;
    const columns = Math.max(1, Math.floor(80 / Math.max(10, width)));
    let text = '\r\n';
    found.forEach((name, i) => {
      text += name.padEnd(width);
      if (i % columns === columns - 1 || i === found.length - 1) text += '\r\n';
    });
    this.#events.send(text);
    this.#showPrompt();
  }

  #draw(): void {
    let text = '';
    if (this.#line !== this.#shown) {
      text = CURSOR_LEFT.repeat(this.#shownCursor) + this.#line + CLEAR_TO_END;
      this.#shown = this.#line;
      this.#shownCursor = this.#line.length;
    }
    const move = this.#cursor - this.#shownCursor;
    text += (move > 0 ? CURSOR_RIGHT : CURSOR_LEFT).repeat(Math.abs(move));
    this.#shownCursor = this.#cursor;
    if (text !== '') this.#events.send(text);
  }
}

type Key =
  | 'start'
  | 'end'
  | 'left'
  | 'right'
  | 'delete'
  | 'backspace'
  | 'word'
  | 'clear'
  | 'complete'
  | 'up'
  | 'down';

const KEYS: Readonly<Record<string, Key>> = {
  '\x01': 'start',
  '\x04': 'delete',
  '\x05': 'end',
  '\x08': 'backspace',
  '\t': 'complete',
  '\x0c': 'clear',
  '\x17': 'word',
  '\x7f': 'backspace',
};
const CSI_KEYS: Readonly<Record<string, Key>> = {
  A: 'up',
  B: 'down',
  C: 'right',
  D: 'left',
  F: 'end',
  H: 'start',
};
const SS3_KEYS: Readonly<Record<string, Key>> = { F: 'end', H: 'start' };
const TILDE_KEYS: Readonly<Record<number, Key>> = { 1: 'start', 3: 'delete', 4: 'end' };
