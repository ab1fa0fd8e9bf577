// What a refusal has to be: exit 1, one clear error, no file touched.

import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { limited } from './limited.ts';
import { type Outcome, run } from './qemu.ts';

/** Every file below a directory, with what it holds: equal before and after, nothing was changed. */
export function contentOf(dir: string): Readonly<Record<string, string>> {
  const content: Record<string, string> = {};
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort()) {
    const file = join(dir, name);
    const stat = lstatSync(file);
    if (stat.isSymbolicLink()) content[name] = `-> ${readlinkSync(file)}`;
    else if (!stat.isFile()) content[name] = 'no file';
    else content[name] = createHash('sha256').update(readFileSync(file)).digest('hex');
  }
  return content;
}

/** One line that begins as our errors do, and nothing that only a programmer can read. */
export function expectClearError({ stderr }: Outcome): void {
  const lines = stderr.trimEnd().split('\n');
  expect(lines[0]).toMatch(/^qimg-ts: \S/);
  expect(
    lines.filter((line) => line.startsWith('qimg-ts: ')),
    stderr,
  ).toHaveLength(1);
  expect(stderr).not.toMatch(/^ {4}at |node:|TypeError|RangeError|ERR_|undefined|\[object/m);
  expect(stderr).not.toContain('\0');
}

/** The command line is refused with words that match, and every file below `dir` stays. */
export async function expectRefused(
  dir: string,
  args: readonly string[],
  words: string | RegExp,
): Promise<Outcome> {
  const before = contentOf(dir);
  const outcome = await limited(args, dir);
  expect(outcome.code, outcome.stdout + outcome.stderr).toBe(1);
  expectClearError(outcome);
  expect(outcome.stderr).toMatch(words);
  expect(outcome.stdout).not.toContain('Image committed.');
  expect(contentOf(dir)).toEqual(before);
  return outcome;
}

/** Commits by the command line, which has to succeed. */
export async function committed(dir: string, ...args: readonly string[]): Promise<Outcome> {
  const outcome = await limited(['commit', ...args], dir);
  if (outcome.code !== 0) {
    throw new Error(`commit ${args.join(' ')}: exit ${outcome.code}\n${outcome.stderr}`);
  }
  expect(outcome.stdout).toContain('Image committed.');
  return outcome;
}

/** Leaks are what a stopped writer may leave; anything else `qemu-img check` finds is damage. */
export async function checkNotCorrupt(file: string): Promise<void> {
  await expectNotCorrupt(file, ['-f', 'qcow2', file]);
}

/** The same of an image whose backing file may be gone: it is opened by itself. */
export async function checkAloneNotCorrupt(filename: string): Promise<void> {
  const node = { driver: 'qcow2', backing: null, file: { driver: 'file', filename } };
  await expectNotCorrupt(filename, [`json:${JSON.stringify(node)}`]);
}

async function expectNotCorrupt(file: string, words: readonly string[]): Promise<void> {
  const args = ['check', '--output=json', ...words];
  const { code, stdout, stderr } = await run('qemu-img', args);
  if (code !== 0 && code !== 3) throw new Error(`${file}: exit ${code}\n${stdout}${stderr}`);
}
