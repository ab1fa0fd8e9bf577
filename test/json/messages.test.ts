// JSON from a stream: which values come out, whatever the pieces that it comes in.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Message, MessageStream, type WireValue } from '../../src/json/messages.ts';
import { printJson, printPretty } from '../../src/json/printer.ts';

function messagesOf(...pieces: readonly (string | Uint8Array)[]): readonly Message[] {
  const messages: Message[] = [];
  const stream = new MessageStream((message) => messages.push(message));
  for (const piece of pieces) {
    stream.feed(typeof piece === 'string' ? new TextEncoder().encode(piece) : piece);
  }
  return messages;
}

const SEED = { seed: 20_260_728 };
const jsonBytes = fc
  .array(fc.constantFrom(...'{}[]:,"\'\\u0123456789abcdefEtrn.-+ \n\t\xff'), { maxLength: 60 })
  .map((chars) => Uint8Array.from(chars, (char) => char.charCodeAt(0)));

test('it makes no difference where a stream is cut', () =>
  fc.assert(
    fc.property(
      fc.oneof(jsonBytes, fc.uint8Array({ maxLength: 80 })),
      fc.infiniteStream(fc.nat(7)),
      (bytes, cuts) => {
        const pieces: Uint8Array[] = [];
        for (let at = 0; at < bytes.length; ) {
          const length = 1 + cuts.next().value;
          pieces.push(bytes.subarray(at, at + length));
          at += length;
        }
        expect(messagesOf(...pieces)).toEqual(messagesOf(bytes));
      },
    ),
    { ...SEED, numRuns: 2000 },
  ));

test('after any bytes the next value is understood, if the byte before it is no text', () =>
  fc.assert(
    fc.property(fc.oneof(jsonBytes, fc.uint8Array({ maxLength: 80 })), (bytes) => {
      const messages = messagesOf(bytes, Uint8Array.of(0xff), '{"a": 1}');
      expect(messages.at(-1)).toEqual({ value: { a: 1n } });
    }),
    { ...SEED, numRuns: 2000 },
  ));

test('what is printed comes back as it was', () =>
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 3 }), (value) => {
      const object = { value } as unknown as WireValue;
      for (const print of [printJson, printPretty]) {
        const [message] = messagesOf(print(object));
        const read = JSON.stringify(message, (_, each) =>
          typeof each === 'bigint' ? Number(each) : each,
        );
        expect(JSON.parse(read)).toEqual({ value: JSON.parse(JSON.stringify(object)) });
      }
    }),
    { ...SEED, numRuns: 300 },
  ));

describe('bounds', () => {
  test('a token that is too long', () => {
    const messages = messagesOf(`["${'x'.repeat(64 * 1024 * 1024)}"]\n`, '[1]');
    expect(messages[0]).toEqual({ error: 'JSON token size limit exceeded' });
    expect(messages.at(-1)).toEqual({ value: [1n] });
  });

  test('too many tokens', () => {
    const messages = messagesOf(`[${'1,'.repeat(1024 * 1024)}1]\n`, '[2]');
    expect(messages[0]).toEqual({ error: 'JSON token count limit exceeded' });
    expect(messages.at(-1)).toEqual({ value: [2n] });
  });

  test.each(['[', '{"a":'])('too deep: %s', (open) => {
    const [first] = messagesOf(open.repeat(1025));
    expect(first).toEqual({ error: 'JSON nesting depth limit exceeded' });
  });
});

test('numbers are printed with as many digits as tell them apart', () => {
  const values = [0.1, 1.5e-7, 1e22, 123456789012345680, -0, 1.5, 1e300, 4294967296];
  expect(values.map((value) => printJson(value))).toEqual([
    ...['0.10000000000000001', '1.4999999999999999e-07', '1e+22', '1.2345678901234568e+17'],
    ...['-0', '1.5', '1.0000000000000001e+300', '4294967296'],
  ]);
});

test('a value for people', () => {
  expect(printPretty({ a: [], b: { c: [1, 'x'] } })).toBe(
    '{\n    "a": [\n    ],\n    "b": {\n        "c": [\n            1,\n            "x"\n        ]\n    }\n}',
  );
});
