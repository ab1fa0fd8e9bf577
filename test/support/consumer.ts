// A folder as a user of the package has one: programs in it find the package by its name, are
// type-checked against its published types, and run.

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustIn } from './qemu.ts';

export const ROOT = join(import.meta.dirname, '..', '..');

/** Makes `dir` such a folder. `package`: where it is installed already, false. */
export function makeConsumer(dir: string, options: { readonly link: boolean }): void {
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  if (!options.link) return;
  mkdirSync(join(dir, 'node_modules'));
  symlinkSync(ROOT, join(dir, 'node_modules', 'qimg-ts'));
}

export type Resolution = 'node16' | 'nodenext' | 'bundler';

/** What a program can count on besides the language. */
const PLATFORMS = {
  node: ['--lib', 'es2023,esnext.disposable', '--types', 'node'],
  web: ['--lib', 'es2022,dom', '--types', ''],
} as const;

/** Fails where the strict compiler finds fault with one of the files. */
export async function typeCheck(
  dir: string,
  files: readonly string[],
  resolution: Resolution = 'nodenext',
  platform: keyof typeof PLATFORMS = 'node',
): Promise<void> {
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const module = resolution === 'bundler' ? 'esnext' : resolution;
  const options = [
    ...['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess'],
    ...['--module', module, '--moduleResolution', resolution],
    ...['--target', 'es2023', ...PLATFORMS[platform]],
    ...['--typeRoots', join(ROOT, 'node_modules', '@types')],
  ];
  await mustIn(dir, process.execPath, tsc, ...options, ...files);
}

/** Runs a TypeScript program in the folder; returns what it prints. */
export function runProgram(dir: string, file: string): Promise<string> {
  const tsx = join(ROOT, 'node_modules', 'tsx', 'dist', 'cli.mjs');
  return mustIn(dir, process.execPath, tsx, file);
}
