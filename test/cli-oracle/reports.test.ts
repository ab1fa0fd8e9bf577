// What a commit tells on a terminal and as JSON lines, by the built command.

import { truncateSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CLI } from '../support/cli.ts';
import { limited, start } from '../support/limited.ts';
import { must } from '../support/qemu.ts';
import { stack, THREE, TWO } from '../support/stacks.ts';

interface Line {
  readonly type: string;
  readonly [member: string]: unknown;
}

const linesOf = (stdout: string): Line[] =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
const typesOf = (lines: readonly Line[]) => lines.map(({ type }) => type);

test('JSON lines: plan, progress, result, nothing else on stdout', async () => {
  const images = await stack(THREE);
  const form = ['-b', 'base.qcow2', '--relink', '--delete', 'top.qcow2'];
  const { code, stdout, stderr } = await limited(['commit', '--output=json', ...form], images.dir);
  expect([code, stderr]).toEqual([0, '']);
  const lines = linesOf(stdout);
  expect([...new Set(typesOf(lines))]).toEqual(['plan', 'progress', 'result']);
  const [plan, first] = lines;
  expect(plan).toMatchObject({ base: 'base.qcow2', refusals: [] });
  expect(first).toMatchObject({ done: 0, total: plan?.['copy-bytes'], 'seconds-left': null });
  expect(lines.at(-2)).toMatchObject({ done: plan?.['copy-bytes'], rate: expect.any(Number) });
  expect(lines.at(-1)).toMatchObject({
    relinks: [{ overlay: 'top.qcow2', 'backing-file': 'base.qcow2' }],
    deletes: ['mid.qcow2'],
  });
});

test('JSON lines: warnings, and with -q nothing more than those', async () => {
  const images = await stack(TWO);
  await images.create('sibling.qcow2', '8M', { backing: 'base.qcow2' });
  const args = ['commit', '--output=json', '-q', '--force', 'top.qcow2'];
  const { code, stdout } = await limited(args, images.dir);
  expect(code).toBe(0);
  expect(linesOf(stdout)).toEqual([
    { type: 'warning', message: "'sibling.qcow2' will see other data from now on" },
  ]);
});

test.each<[string, readonly string[], string]>([
  ['a refusal', ['top.qcow2'], 'siblings'],
  ['a name that is not there', ['nope.qcow2'], 'not-found'],
  ['an option', ['-t', 'foo', 'top.qcow2'], 'invalid'],
])('JSON lines: %s is an error line, and told on stderr as ever', async (_, form, code) => {
  const images = await stack(TWO);
  await images.create('sibling.qcow2', '8M', { backing: 'base.qcow2' });
  const outcome = await limited(['commit', '--output=json', ...form], images.dir);
  expect(outcome.code).toBe(1);
  const [line, ...more] = linesOf(outcome.stdout);
  expect(more).toEqual([]);
  expect(line).toMatchObject({ type: 'error', code, hint: expect.any(String) });
  expect(outcome.stderr).toContain(`qimg-ts: ${line?.['message']}\n`);
});

test('JSON lines: stopped by a signal', async () => {
  const images = await stack(TWO);
  const running = start(['commit', '--output=json', '-r', '200k', 'top.qcow2'], images.dir);
  await new Promise<void>((resolve) => running.child.stdout?.once('data', () => resolve()));
  running.child.kill('SIGTERM');
  const { code, stdout } = await running.ended;
  expect(code).toBe(143);
  expect(linesOf(stdout).at(-1)).toMatchObject({ type: 'error', code: 'cancelled' });
});

/** In a pseudo terminal of 70 columns. */
function onTerminal(dir: string, line: string): Promise<string> {
  const command = `stty cols 70; cd '${dir}' && env COLUMNS= ${line}`;
  return must('script', '-qec', command, '/dev/null');
}

test('on a terminal: a bar in place, gone at the end', async () => {
  const images = await stack(TWO);
  const shown = await onTerminal(images.dir, `node '${CLI}' commit -p -r 2M top.qcow2`);
  expect(shown).toMatch(/\[█*░+\] +0% {2}0 B of 1 MiB/);
  expect(shown.endsWith('\r\x1b[KImage committed.\r\n')).toBe(true);
  for (const frame of shown.split('\r\x1b[K')) expect(frame.length).toBeLessThanOrEqual(69);
});

test('through a link named qemu-img a terminal gets the lines of QEMU', async () => {
  const images = await stack(TWO);
  await must('ln', '-s', CLI, images.path('qemu-img'));
  const shown = await onTerminal(images.dir, 'node ./qemu-img commit -p top.qcow2');
  expect(shown).toContain('    (0.00/100%)\r');
  expect(shown).not.toContain('\x1b');
});

test('a bar whose commit fails leaves nothing but the error', async () => {
  const images = await stack(TWO);
  truncateSync(images.path('top.qcow2'), 400_000);
  const shown = await onTerminal(images.dir, `sh -c "node '${CLI}' commit -p top.qcow2 || true"`);
  expect(shown).not.toContain('%');
  expect(shown).toMatch(/^qimg-ts: /);
});
