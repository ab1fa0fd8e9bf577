// What is echoed of what is typed; recorded from qemu-system-x86_64's monitor on a socket.

import { expect, test } from 'vitest';
import { LineEditor } from '../../src/hmp/line-editor.ts';

const NAMES = ['block_job_cancel', 'block_job_complete', 'block_job_pause'].concat([
  ...['block_job_resume', 'block_job_set_speed', 'commit', 'help'],
]);

function typed(...inputs: readonly string[]): {
  readonly echoed: string[];
  readonly lines: string[];
} {
  const lines: string[] = [];
  const echoed: string[] = [];
  let text = '';
  const editor = new LineEditor('(qemu) ', {
    send: (more) => {
      text += more;
    },
    enter: (line) => {
      lines.push(line);
      editor.start();
    },
    complete: (before) => NAMES.filter((name) => name.startsWith(before)),
  });
  editor.start();
  text = '';
  for (const input of inputs) {
    for (const byte of Buffer.from(input, 'latin1')) editor.feed(byte);
    echoed.push(text);
    text = '';
  }
  return { echoed, lines };
}

const left = (count: number) => '\x1b[D'.repeat(count);

test('each key draws the line anew', () => {
  expect(typed('hi', '\n')).toEqual({
    echoed: [`h\x1b[K${left(1)}hi\x1b[K`, '\r\n(qemu) '],
    lines: ['hi'],
  });
});

test('the start, the end, and the screen cleared', () => {
  const { echoed } = typed('abc', '\x01X', '\x05Y', '\x03', '\x0c', '\x1b[D\x1b[D\x1b[C', '\n');
  expect(echoed.slice(1)).toEqual([
    `${left(3)}Xabc\x1b[K${left(3)}`,
    `\x1b[C\x1b[C\x1b[C${left(4)}XabcY\x1b[K`,
    '',
    '\x1b[2J\x1b[1;1H(qemu) XabcY\x1b[K',
    `${left(2)}\x1b[C`,
    '\r\n(qemu) ',
  ]);
});

test('names are completed, or offered', () => {
  const { echoed, lines } = typed('com', '\tx', '\n', 'block_j', '\t');
  expect(echoed.slice(1)).toEqual([
    `${left(3)}commit \x1b[K${left(7)}commit x\x1b[K`,
    '\r\n(qemu) ',
    expect.stringContaining('block_j\x1b[K'),
    '\r\nblock_job_cancel     block_job_complete   block_job_pause      \r\n' +
      'block_job_resume     block_job_set_speed  \r\n(qemu) block_job_\x1b[K',
  ]);
  expect(lines).toEqual(['commit x']);
});

test('what was entered comes back', () => {
  const { echoed, lines } = typed('one\n', 'two\n', '\x1b[A', '\x1b[A', '\x1b[B', '\n');
  expect(echoed.slice(2)).toEqual([
    'two\x1b[K',
    `${left(3)}one\x1b[K`,
    `${left(3)}two\x1b[K`,
    '\r\n(qemu) ',
  ]);
  expect(lines).toEqual(['one', 'two', 'two']);
});

test('removing: a character, the one under the cursor, a word', () => {
  expect(typed('ab cd\x7f\x08\x08\x1b[D\x04\x1b[3~z\n', 'one two\x17\x17x\n').lines).toEqual([
    'az',
    'x',
  ]);
});

test('bytes of a text come back as they were', () => {
  const { lines } = typed(Buffer.from('é\n').toString('latin1'));
  expect(lines).toEqual(['é']);
});

test('a line has an end', () => {
  const { lines } = typed(`${'x'.repeat(5000)}\n`);
  expect(lines).toEqual(['x'.repeat(4095)]);
});
