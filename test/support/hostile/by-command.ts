// The same inputs through the command, each in a process of its own under the limits that callers give
// it: how it ends, what it says, and that reading leaves the files alone.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { confined } from '../limited.ts';
import type { Input } from './inputs.ts';

const READING = [
  ['info'],
  ['info', '--safety', '--output=json'],
  ['check'],
  ['map', '--output=json'],
  ['chain'],
  ['commit', '--dry-run'],
] as const;

/** 63: the format has no checks. */
const CODES: readonly number[] = [0, 1, 2, 3, 4, 63];
/** What only a mistake of ours prints. */
const TRACE = /\n {4}at |RangeError|TypeError|internal error/;

/** Returns what went wrong. `directory` is made, and removed again. */
export async function judgeByCommand(input: Input, directory: string): Promise<readonly string[]> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  for (const [name, bytes] of input.files) writeFileSync(join(directory, basename(name)), bytes);
  const top = basename(input.top);
  const findings: string[] = [];
  const run = async (args: readonly string[]): Promise<void> => {
    try {
      const { code, stdout, stderr } = await confined(args, directory);
      if (!CODES.includes(code)) findings.push(`${args.join(' ')}: ends with ${code}: ${stderr}`);
      if (TRACE.test(`\n${stderr}${stdout}`)) findings.push(`${args.join(' ')}: ${stderr}`);
    } catch (error) {
      findings.push(`${args.join(' ')}: ${error instanceof Error ? error.message : error}`);
    }
  };
  const before = contentIn(directory);
  for (const words of READING) await run([...words, top]);
  await run(['compare', top, top]);
  if (contentIn(directory) !== before) findings.push('reading changes a file');
  await run(['commit', '-q', top]);
  await run(['check', '-q', '-r', 'all', top]);
  rmSync(directory, { recursive: true });
  return findings;
}

function contentIn(directory: string): string {
  return readdirSync(directory)
    .sort()
    .map((name) => `${name} ${readFileSync(join(directory, name)).toString('base64')}`)
    .join('\n');
}
