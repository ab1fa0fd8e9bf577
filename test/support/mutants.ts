// The engine with a step of its order left out or moved: what the tests of power cuts have to find.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import type { CRASH_OPERATIONS } from './crash-operations/index.ts';
import type { tryOperation } from './crash-trial.ts';

const ROOT = join(import.meta.dirname, '..', '..');

export interface Mutant {
  readonly name: string;
  /** Below src/. */
  readonly file: string;
  /** Each text, which is there once, and what takes its place. */
  readonly changes: readonly (readonly [string, string])[];
}

interface Trial {
  readonly CRASH_OPERATIONS: typeof CRASH_OPERATIONS;
  readonly tryOperation: typeof tryOperation;
}

/** The trials over an engine that is changed so. */
export async function mutated({ file, changes }: Mutant): Promise<Trial> {
  const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-mutant-'));
  try {
    const outfile = join(dir, 'trial.cjs');
    const target = join(ROOT, 'src', file);
    await build({
      stdin: {
        contents:
          "export { CRASH_OPERATIONS } from './crash-operations/index.ts';\n" +
          "export { tryOperation } from './crash-trial.ts';\n",
        resolveDir: import.meta.dirname,
      },
      outfile,
      bundle: true,
      format: 'cjs',
      platform: 'node',
      target: 'node20',
      packages: 'external',
      logLevel: 'silent',
      plugins: [
        {
          name: 'mutant',
          setup({ onLoad }) {
            onLoad({ filter: /\.ts$/ }, ({ path }) => {
              if (path !== target) return undefined;
              return { contents: changed(readFileSync(path, 'utf8'), changes), loader: 'ts' };
            });
          },
        },
      ],
    });
    return createRequire(import.meta.url)(outfile) as Trial;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function changed(source: string, changes: Mutant['changes']): string {
  let text = source;
  for (const [from, to] of changes) {
    const parts = text.split(from);
    // Whoever rewrites what is here says anew what can go wrong in it.
    if (parts.length !== 2) throw new Error(`found ${parts.length - 1} times:\n${from}`);
    text = parts.join(to);
  }
  return text;
}
