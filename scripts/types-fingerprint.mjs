// What docs/API.md was made from: a test sees by it that the page is up to date, without TypeDoc.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Of the published declarations, comments included. */
export function typesFingerprint(dir = 'dist/types') {
  const hash = createHash('sha256');
  const names = readdirSync(dir, { recursive: true }).filter((name) => name.endsWith('.d.ts'));
  for (const name of names.sort()) hash.update(`${name}\n${readFileSync(join(dir, name), 'utf8')}`);
  return hash.digest('hex').slice(0, 16);
}
