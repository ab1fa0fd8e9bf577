// The reference page is made from what is published now.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { typesFingerprint } from '../../scripts/types-fingerprint.mjs';
import { ROOT } from '../support/consumer.ts';

test('docs/API.md is up to date (npm run docs makes it)', () => {
  const [first] = readFileSync(join(ROOT, 'docs', 'API.md'), 'utf8').split('\n');
  expect(first).toContain(` ${typesFingerprint(join(ROOT, 'dist', 'types'))} `);
});

test('every export of the library is on it', async () => {
  const page = readFileSync(join(ROOT, 'docs', 'API.md'), 'utf8').replaceAll('\\_', '_');
  const index = readFileSync(join(ROOT, 'src', 'index.ts'), 'utf8');
  const names = [...index.matchAll(/\{([^}]*)\}/g)].flatMap(([, list = '']) =>
    list.split(',').map((name) => name.replace('type ', '').trim()),
  );
  const exported = names.filter((name) => name !== '');
  expect(exported.length).toBeGreaterThan(20);
  expect(exported.filter((name) => !new RegExp(`^### ${name}\\b`, 'm').test(page))).toEqual([]);
});
