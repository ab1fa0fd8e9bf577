// What the shells offer: made from the verbs' own options, tried in bash itself.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { definitionsOf } from '../../src/cli/definitions.ts';
import { VERBS, verbsOf } from '../../src/cli/verbs.ts';
import { qimg } from '../support/cli.ts';
import { keptOutput } from '../support/output.ts';
import { run } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const { dir, cleanup } = makeTemp();
afterAll(cleanup);
mkdirSync(join(dir, 'disks'));
for (const name of ['top.qcow2', 'two words.raw']) writeFileSync(join(dir, name), '');

/** As bash splits the line: `=` is a word of its own. */
async function offered(...words: readonly string[]): Promise<readonly string[]> {
  const { stdout: script } = await qimg(['completion', 'bash'], dir);
  writeFileSync(join(dir, 'script'), script);
  const program = `source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    _qimg_ts; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const args = ['--norc', '-c', program, 'bash', 'qimg-ts', ...words];
  const { stdout, stderr } = await run('bash', args, { cwd: dir });
  expect(stderr).toBe('');
  return stdout.split('\n').filter(Boolean).sort();
}

test('bash: verbs, options, values, files', async () => {
  expect(await offered('com')).toEqual(['commit', 'compare', 'completion']);
  expect(await offered('commit', '--rel')).toEqual(['--relink']);
  expect(await offered('commit', '-t', 'w')).toEqual(['writeback', 'writethrough']);
  expect(await offered('info', '--output', '')).toEqual(['human', 'json']);
  expect(await offered('info', '--output', '=')).toEqual(['human', 'json']);
  expect(await offered('info', '--output', '=', 'j')).toEqual(['json']);
  expect(await offered('commit', '-b', 'to')).toEqual(['top.qcow2']);
  expect(await offered('info', 't')).toEqual(['top.qcow2', 'two words.raw']);
  expect(await offered('commit', '--search', '')).toEqual(['disks']);
  expect(await offered('completion', '')).toEqual(['bash', 'fish', 'zsh']);
  expect(await offered('nosuch', '')).toEqual([]);
});

test('each option of each verb is in each script', async () => {
  const output = keptOutput();
  const definitions = await definitionsOf(verbsOf(output), output);
  expect(definitions.map(({ name }) => name)).toEqual(Object.keys(VERBS));
  expect(output).toMatchObject({ stdout: '', stderr: '' });
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { stdout, code } = await qimg(['completion', shell], dir);
    expect(code).toBe(0);
    for (const { name, command } of definitions) {
      expect(stdout).toContain(name);
      for (const { long } of command.options) {
        expect(stdout).toContain(shell === 'fish' ? `-l ${long?.slice(2)}` : long);
      }
    }
  }
});

test('shells that are here read their scripts without complaint', async () => {
  const missing: string[] = [];
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { stdout } = await qimg(['completion', shell], dir);
    writeFileSync(join(dir, shell), stdout);
    const outcome = await run(shell, ['-n', shell], { cwd: dir }).catch(() => undefined);
    if (outcome === undefined) missing.push(shell);
    else expect(outcome).toEqual({ code: 0, stdout: '', stderr: '' });
  }
  if (missing.length > 0) console.warn(`not tried: ${missing.join(', ')} (apt-get install them)`);
  expect(missing).not.toContain('bash');
});

test('an unknown shell, and QEMU has no such command', async () => {
  expect(await qimg(['completion', 'tcsh'], dir)).toMatchObject({ code: 1, stdout: '' });
  expect(verbsOf(keptOutput(true)).map(([name]) => name)).not.toContain('completion');
});
