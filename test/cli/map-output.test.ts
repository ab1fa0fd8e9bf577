// The lines of `map` for what is rare on a disk.

import { expect, test } from 'vitest';
import { emptyMapObject, MAP_HEADING, mapLine, mapObject } from '../../src/cli/map-output.ts';
import { makeContext } from '../../src/cli/program.ts';
import { sizeArgument } from '../../src/cli/size.ts';
import { MemoryStorage } from '../../src/io/memory.ts';

const storage = new MemoryStorage();

test('columns of sixteen, a zero without its mark', () => {
  const status = { kind: 'data', offset: 0, length: 0x1234, depth: 0 } as const;
  const line = mapLine({ ...status, host: { storage, offset: 0 } }, 'a b');
  expect(MAP_HEADING).toBe('Offset          Length          Mapped to       File\n');
  expect(line).toBe('0               0x1234          0               a b\n');
  expect(mapLine({ ...status, host: null }, 'a')).toBeUndefined();
  expect(mapLine({ ...status, kind: 'hole', host: null }, 'a')).toBe('');
});

test('the members of an object', () => {
  const hole = {
    kind: 'hole',
    offset: 1,
    length: 2,
    depth: 3,
    host: { storage, offset: 4 },
  } as const;
  expect(mapObject(hole)).toBe(
    '{ "start": 1, "length": 2, "depth": 3, "present": true, "zero": true, "data": true, "offset": 4}',
  );
  expect(mapObject({ ...hole, kind: 'absent', host: null })).toBe(
    '{ "start": 1, "length": 2, "depth": 3, "present": false, "zero": true, "data": false}',
  );
  expect(emptyMapObject(2 ** 62)).toContain('"start": 4611686018427387904,');
});

const program = makeContext({
  asQemu: true,
  env: {},
  out: () => undefined,
  err: () => undefined,
});

test.each(['abc', '', '-1', '1.5', '1Z', '1,5k', '0x'])("'%s' is no number of bytes", (text) => {
  expect(() => sizeArgument(text, 'max length', program)).toThrow(
    /^Invalid max length .* suffixes for$/,
  );
});

test.each(['8E', '0x8000000000000000', '99999999999999999999'])('%s is too large', (text) => {
  expect(() => sizeArgument(text, 'max length', program)).toThrow(
    /Must be between 0 and 9223372036854775807/,
  );
});
