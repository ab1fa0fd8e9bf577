// What is printed of corruption before anybody tells what failed because of it: QEMU's lines.

import { expect, test } from 'vitest';
import { makeContext, reportError } from '../../src/cli/program.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { CorruptionError } from '../../src/qcow2/corruption.ts';

function printed(asQemu: boolean, words: string, marked: boolean): string {
  let text = '';
  const err = (more: string): void => {
    text += more;
  };
  const program = makeContext({ asQemu, env: {}, out: () => undefined, err });
  const cause = new CorruptionError(new MemoryStorage(), words);
  cause.marked = marked;
  reportError(new ImageError('corrupt', 'It failed', { cause, hint: 'That is why.' }), program);
  return text;
}

test('where it was noted, whoever asks', () => {
  const line =
    'qcow2: Marking image as corrupt: Some words; further corruption events will be suppressed\n';
  expect(printed(true, 'Some words', true)).toBe(`${line}qemu-img: It failed\n`);
  expect(printed(false, 'Some words', true)).toBe(`${line}qimg-ts: It failed\nThat is why.\n`);
});

test('where it was only read: what QEMU tells, under its name', () => {
  const words = 'L2 table offset 0x4200 unaligned (L1 index: 0)';
  expect(printed(true, words, false)).toBe(
    `qcow2: Image is corrupt: ${words}; further non-fatal corruption events will be suppressed\n` +
      'qemu-img: It failed\n',
  );
  expect(printed(false, words, false)).toBe('qimg-ts: It failed\nThat is why.\n');
  expect(printed(true, 'something else', false)).toBe('qemu-img: It failed\n');
});
