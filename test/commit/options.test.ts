// Which wishes make sense together.

import { expect, test } from 'vitest';
import { type CommitOptions, checkOptions } from '../../src/commit/options.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';

type Form = Omit<CommitOptions, 'host'>;
const check = (form: Form) => () => checkOptions({ host: new MemoryHost(), ...form });

test.each<[Form, string]>([
  [{ relink: true }, '--relink needs a base'],
  [{ relink: true, top: 'mid', base: 'base' }, '--relink goes without --top'],
  [{ relink: true, top: 'mid' }, '--relink goes without --top'],
  [{ overlays: ['other'] }, '--overlay needs --top'],
  [{ overlays: ['other'], base: 'base', relink: true }, '--overlay needs --top'],
  [{ delete: true }, '--delete needs --top or --relink'],
  [{ delete: true, base: 'base' }, '--delete needs --top or --relink'],
  [{ reclaim: true, drop: true }, '--reclaim goes without --drop (-d)'],
  [{ reclaim: true, drop: true, base: 'base' }, '--reclaim goes without --drop (-d)'],
])('%j is refused', (form, words) => {
  const message = expect.stringContaining(words);
  expect(check(form)).toThrow(expect.objectContaining({ code: 'invalid', message }));
});

test.each<[Form]>([
  [{}],
  [{ drop: true }],
  [{ base: 'base' }],
  [{ base: 'base', relink: true }],
  [{ base: 'base', relink: true, delete: true }],
  [{ top: 'mid' }],
  [{ top: 'mid', base: 'base', delete: true, overlays: ['other'] }],
  [{ overlays: [] }],
  [{ reclaim: true }],
  [{ reclaim: true, base: 'base' }],
  [{ reclaim: true, base: 'base', relink: true, delete: true }],
  [{ reclaim: true, top: 'mid', base: 'base', delete: true }],
])('%j is fine', (form) => {
  expect(check(form)).not.toThrow();
});
