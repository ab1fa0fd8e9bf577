// The same inputs through the command, each in a process of its own under the limits that callers give
// it: how it ends, what it says, and that reading leaves the files alone.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Description } from '../../../src/chain/open.ts';
import { confined } from '../limited.ts';
import { SECRETS } from './corpus.ts';
import type { Input } from './inputs.ts';

export const READING = [
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
const TRACE = /\n {4}at |RangeError|TypeError|internal error:/;

/** What moves a cursor, or hides other text. */
export const STEERS = /(?![\n])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

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
      if (STEERS.test(stdout + stderr)) findings.push(`${args.join(' ')}: raw control characters`);
      if (TRACE.test(`\n${stderr}${stdout}`)) findings.push(`${args.join(' ')}: ${stderr}`);
    } catch (error) {
      findings.push(`${args.join(' ')}: ${error instanceof Error ? error.message : error}`);
    }
  };
  const { options, name } = keyedName(input);
  const before = contentIn(directory);
  for (const words of READING) await run([...words, top]);
  await run(['compare', ...options, name, name]);
  if (input.keyed) await run(['commit', '--dry-run', ...options, name]);
  if (contentIn(directory) !== before) findings.push('reading changes a file');
  await run(['commit', '-q', ...options, name]);
  await run(['check', '-q', '-r', 'all', top]);
  rmSync(directory, { recursive: true });
  return findings;
}

/** The top as commands take it that need data: with its keys, where layers are encrypted. */
function keyedName({ top, keyed }: Input): {
  readonly options: readonly string[];
  readonly name: string;
} {
  if (keyed === undefined) return { options: [], name: basename(top) };
  const secrets = [...SECRETS].flatMap(([id, text]) => [
    '--object',
    `secret,id=${id},data=${new TextDecoder().decode(text)}`,
  ]);
  const described = { ...keyed, file: { driver: 'file', filename: basename(top) } };
  return { options: [...secrets, '--image-opts'], name: flat(described, '').join(',') };
}

function flat(description: Description, prefix: string): string[] {
  return Object.entries(description).flatMap(([key, value]) =>
    typeof value === 'object'
      ? flat(value as Description, `${prefix}${key}.`)
      : [`${prefix}${key}=${value}`],
  );
}

function contentIn(directory: string): string {
  return readdirSync(directory)
    .sort()
    .map((name) => `${name} ${readFileSync(join(directory, name)).toString('base64')}`)
    .join('\n');
}
