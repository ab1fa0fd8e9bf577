// The bench runs, on data too small to tell anything, and refuses what it can't do.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

function bench(...args: readonly string[]) {
  return run(process.execPath, [join('bench', 'commit.mjs'), ...args], {});
}

test('measures rows and curves, and writes table, JSON and pictures', async () => {
  const dir = tempDir();
  const small = ['--fs', 'here', '--cache', 'warm', '--scale', '0.001', '--runs', '1'];
  const what = ['--rows', 'scattered', '--curves', 'depth', '--node', process.execPath];
  const { code, stdout, stderr } = await bench(...small, ...what, '--dir', dir, '--out', dir);
  expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^scattered +here +warm +\d+\.\d{3} /m);
  // Nothing is left of what it made, but the results.
  const written = readdirSync(dir).sort();
  expect(written.map((name) => name.slice(name.search(/[.-](depth|json|txt)/)))).toEqual([
    '-depth-here.svg',
    '.json',
    '.txt',
  ]);
  const [, json = ''] = written;
  const { rows } = JSON.parse(readFileSync(join(dir, json), 'utf8'));
  expect(rows[0].calls.qemu.sync).toBeGreaterThan(0);
});

test('refuses rows and sizes that there are not', async () => {
  const unknown = await bench('--rows', 'nothing');
  expect([unknown.code, unknown.stderr.split('\n')[0]]).toEqual([1, '--rows: there is no nothing']);
  const large = await bench('--fs', 'here', '--cache', 'warm', '--scale', '1e6');
  expect([large.code, large.stderr]).toEqual([1, expect.stringContaining('may be needed')]);
});
