// Temporary directories that go away with the test that asked for them.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** A new directory; removed when `cleanup` is called. */
export function makeTemp(): { readonly dir: string; cleanup(): void } {
  const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-'));
  return { dir, cleanup: () => rmSync(dir, { recursive: true, force: true }) };
}

/** A new directory for the test that is running. */
export function tempDir(): string {
  const { dir, cleanup } = makeTemp();
  onTestFinished(cleanup);
  return dir;
}
