// Rules of style that the linter does not know.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const MAX_LINES = 400;

interface TextFile {
  readonly name: string;
  readonly text: string;
}

const FILES = textFiles();
const SOURCES = FILES.filter(({ name }) => /\.(ts|mjs|cjs)$/.test(name));

/** What git keeps or would keep; without git, everything but what is made by tools. */
function textFiles(): readonly TextFile[] {
  const files: TextFile[] = [];
  for (const name of new Set(names())) {
    const bytes = readBytes(name);
    if (bytes !== undefined && !bytes.includes(0)) files.push({ name, text: bytes.toString() });
  }
  return files;
}

function names(): readonly string[] {
  try {
    // The folder may belong to somebody else than the tests.
    const git = ['-c', 'safe.directory=*', 'ls-files', '-z', '-co', '--exclude-standard'];
    const options = { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' } as const;
    return execFileSync('git', git, options).split('\0').filter(Boolean);
  } catch {
    const made = /^(\.git|node_modules|dist|coverage)(\/|$)|\.tgz$|^bench\/results\//;
    const all = readdirSync(ROOT, { withFileTypes: true })
      .filter((entry) => !made.test(entry.name))
      .flatMap((entry) =>
        entry.isDirectory()
          ? readdirSync(join(ROOT, entry.name), { recursive: true, encoding: 'utf8' }).map((file) =>
              join(entry.name, file),
            )
          : [entry.name],
      );
    return all.filter((name) => !made.test(name));
  }
}

/** Undefined for what is no file, or is gone but not yet from git's list. */
function readBytes(name: string): Buffer | undefined {
  try {
    return readFileSync(join(ROOT, name));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'EISDIR') return undefined;
    throw error;
  }
}

function linesWith(files: readonly TextFile[], pattern: RegExp): readonly string[] {
  return files.flatMap(({ name, text }) =>
    text
      .split('\n')
      .flatMap((line, i) => (pattern.test(line) ? [`${name}:${i + 1}: ${line.trim()}`] : [])),
  );
}

test('the files are found', () => {
  expect(FILES.map(({ name }) => name)).toContain('package.json');
  expect(SOURCES.map(({ name }) => name)).toContain('test/structure/style.test.ts');
});

test('no file in src is too long to be held in the head', () => {
  const long = FILES.filter(({ name }) => name.startsWith('src/'))
    .map(({ name, text }) => ({ name, lines: text.trimEnd().split('\n').length }))
    .filter(({ lines }) => lines > MAX_LINES);
  expect(long).toEqual([]);
});

test('types are not switched off', () => {
  // Not in prose: "as any other".
  expect(linesWith(SOURCES, /\bas any\b(?! \w)/)).toEqual([]);
  expect(linesWith(SOURCES, /@ts-(?:ignore|nocheck)/)).toEqual([]);
});

test('nothing tells on which machine it was written', () => {
  expect(linesWith(FILES, /far[m]-/i)).toEqual([]);
  expect(linesWith(FILES, /(?<![\w.~$})-])\/wor[k]\//i)).toEqual([]);
});
