// Writes man/qimg-ts.1: npm run man

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { definitionsOf } from '../src/cli/definitions.ts';
import { makeContext } from '../src/cli/program.ts';
import { verbsOf } from '../src/cli/verbs.ts';
import { manPage } from './man-page.ts';

const ROOT = join(import.meta.dirname, '..');
/** Of the last change to the manual; only a date that stays makes a file that stays. */
export const DATE = '2026-11-24';

export async function currentPage(): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const program = makeContext({
    asQemu: false,
    env: {},
    out: () => undefined,
    err: () => undefined,
  });
  return manPage(version, DATE, await definitionsOf(verbsOf(program), program));
}

export const PAGE = join(ROOT, 'man', 'qimg-ts.1');

if (process.argv[1] === import.meta.filename) {
  mkdirSync(join(ROOT, 'man'), { recursive: true });
  writeFileSync(PAGE, await currentPage());
}
