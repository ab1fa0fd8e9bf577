// `chain`: sound and broken chains as people and programs see them, by the built command.

import { readFileSync, renameSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CLI } from '../support/cli.ts';
import type { Images } from '../support/images.ts';
import { limited, start } from '../support/limited.ts';
import { must } from '../support/qemu.ts';
import { contentOf } from '../support/refusals.ts';
import { FIVE, forgetBackingFormat, stack, THREE, TWO } from '../support/stacks.ts';

interface LayerJson {
  readonly filename: string;
  readonly 'stored-name': string;
  readonly format: string | null;
  readonly 'format-origin': string | null;
  readonly 'data-bytes': number;
  readonly 'hidden-data-bytes': number;
  readonly 'zero-bytes': number;
  readonly 'unknown-bytes': number;
  readonly siblings: readonly string[];
  readonly problems: readonly { readonly kind: string; readonly hint: string }[];
}

async function look(images: Images, ...args: readonly string[]) {
  const before = contentOf(images.dir);
  const { code, stdout, stderr } = await limited(['chain', '--output=json', ...args], images.dir);
  const human = await limited(['chain', ...args], images.dir, { COLUMNS: '80' });
  expect(contentOf(images.dir)).toEqual(before);
  expect([stderr, human.stderr, human.code]).toEqual(['', '', code]);
  const { layers, broken } = JSON.parse(stdout) as { layers: LayerJson[]; broken: boolean };
  expect(broken).toBe(code === 1);
  return { layers, code, text: human.stdout };
}

const kinds = (layers: readonly LayerJson[]) =>
  layers.map(({ problems }) => problems.map(({ kind }) => kind));

test('amounts are those of qemu-img map, layer by layer', async () => {
  const images = await stack(FIVE);
  await images.io('sn2.qcow2', 'write -z 5M 1M');
  await images.create('other.qcow2', '8M', { backing: 'sn1.qcow2' });
  const { layers, code, text } = await look(images, 'sn4.qcow2');
  expect(code).toBe(0);
  expect(kinds(layers).flat()).toEqual([]);
  expect(layers.map(({ filename }) => filename)).toEqual([...FIVE].reverse());
  const map = await images.map('sn4.qcow2');
  for (const [depth, layer] of layers.entries()) {
    const seen = map
      .filter((entry) => entry.depth === depth && entry.data && entry.present)
      .reduce((sum, { length }) => sum + length, 0);
    expect(layer['data-bytes'] - layer['hidden-data-bytes'], layer.filename).toBe(seen);
    expect(layer['data-bytes']).toBe(1024 ** 2);
  }
  expect(layers.map(({ siblings }) => siblings)).toEqual([[], [], [], ['other.qcow2'], []]);
  expect(layers[2]?.['zero-bytes']).toBe(1024 ** 2);
  expect(text).toContain('guest sees');
  expect(text).toContain('also below other.qcow2');
  expect(text).not.toContain('\x1b');
  for (const line of text.split('\n')) expect([...line].length, line).toBeLessThanOrEqual(80);
});

test.each<[string, (images: Images) => void | Promise<void>, readonly string[][], number]>([
  ['the base is missing', (i) => unlinkSync(i.path('base.qcow2')), [[], [], ['missing']], 1],
  [
    'a loop',
    (i) => i.qemuImg('rebase', '-u', '-F', 'qcow2', '-b', 'top.qcow2', 'base.qcow2'),
    [[], [], [], ['loop']],
    1,
  ],
  [
    'no format stored',
    (i) => forgetBackingFormat(i.path('mid.qcow2')),
    [[], [], ['format-not-stored']],
    0,
  ],
  ['cut short', (i) => truncateSync(i.path('base.qcow2'), 400_000), [[], [], ['truncated']], 1],
  ['marked corrupt', (i) => mark(i.path('mid.qcow2'), 2), [[], ['corrupt'], []], 0],
  ['marked dirty', (i) => mark(i.path('mid.qcow2'), 1), [[], ['dirty'], []], 0],
  [
    'no image at all',
    (i) => writeFileSync(i.path('base.qcow2'), 'hello'),
    [[], [], ['unreadable']],
    1,
  ],
  [
    'a protocol that is not followed',
    (i) => i.qemuImg('rebase', '-u', '-F', 'raw', '-b', 'nbd:unix:/none', 'mid.qcow2'),
    [[], [], ['unreadable']],
    1,
  ],
])('%s: told with what to do, the rest is drawn', async (_, breakIt, expected, code) => {
  const images = await stack(THREE);
  await breakIt(images);
  const seen = await look(images, 'top.qcow2');
  expect(kinds(seen.layers)).toEqual(expected);
  expect(seen.code).toBe(code);
  for (const { problems } of seen.layers)
    for (const { hint } of problems) expect(hint).not.toBe('');
  expect(seen.text).toContain('top.qcow2');
  expect(seen.text).toContain('█');
  expect(seen.layers[0]?.['data-bytes']).toBe(1024 ** 2);
});

function mark(file: string, bit: number): void {
  const bytes = readFileSync(file);
  bytes[79] = bit;
  writeFileSync(file, bytes);
}

test('an encrypted image: its map needs no key', async () => {
  const images = await stack(TWO);
  const aes = ['--object', 'secret,id=s,data=abc', '-o', 'encrypt.format=aes,encrypt.key-secret=s'];
  const below = ['-u', '-b', 'top.qcow2', '-F', 'qcow2'];
  await images.qemuImg('create', '-q', '-f', 'qcow2', ...aes, ...below, 'aes.qcow2', '8M');
  const { layers, code } = await look(images, 'aes.qcow2');
  expect([code, kinds(layers)]).toEqual([0, [[], [], []]]);
  expect(layers.map((layer) => layer['unknown-bytes'])).toEqual([0, 0, 0]);
});

test('an image in use is refused with a word on -U, which shows it', async () => {
  const images = await stack(TWO);
  const writer = start(['commit', '-r', '100k', '-p', 'top.qcow2'], images.dir);
  await new Promise<void>((resolve) => writer.child.stdout?.once('data', () => resolve()));
  const refused = await limited(['chain', 'top.qcow2'], images.dir);
  expect([refused.code, refused.stdout]).toEqual([1, '']);
  expect(refused.stderr).toContain('-U');
  const shown = await limited(['chain', '-U', 'top.qcow2'], images.dir);
  expect(shown.stdout).toContain('guest sees');
});

test('the top itself is missing, or of another format', async () => {
  const images = await stack(TWO);
  const missing = await limited(['chain', 'nope.qcow2'], images.dir);
  expect([missing.code, missing.stdout]).toEqual([1, '']);
  expect(missing.stderr).toMatch(/^qimg-ts: Could not open 'nope\.qcow2'/);
  expect((await limited(['chain', '-f', 'raw', 'top.qcow2'], images.dir)).stdout).toContain('raw');
});

test('names can not steer the terminal, nor break out of the drawing', async () => {
  const images = await stack(TWO);
  const name = 'a<b>&"\x1b[31m.qcow2';
  renameSync(images.path('base.qcow2'), images.path(name));
  await images.qemuImg('rebase', '-u', '-F', 'qcow2', '-b', name, 'top.qcow2');
  const { stdout, code } = await limited(['chain', '--svg', 'out.svg', 'top.qcow2'], images.dir);
  expect(code).toBe(0);
  expect(stdout).not.toContain('\x1b');
  const svg = readFileSync(images.path('out.svg'), 'utf8');
  expect(svg).toContain('a&lt;b&gt;&amp;&quot;');
  expect(svg).not.toContain('\x1b');
  expect(svg).toMatch(/<title>top\.qcow2: data, bytes 524288 to 1572863 \(1 MiB\)<\/title>/);
  expect(svg).not.toMatch(/(href|src|url\((?!#))=?"?http/);
});

test('colours: on a terminal, or forced, or not at all', async () => {
  const images = await stack(TWO);
  const plain = { NO_COLOR: '', FORCE_COLOR: '', TERM: 'xterm' };
  const forced = await limited(['chain', 'top.qcow2'], images.dir, { ...plain, FORCE_COLOR: '1' });
  expect(forced.stdout).toContain('\x1b[3');
  const line = (env: string) =>
    `cd '${images.dir}' && env ${env} TERM=xterm node '${CLI}' chain top.qcow2`;
  const shown = await must('script', '-qec', line('NO_COLOR= FORCE_COLOR='), '/dev/null');
  expect(shown).toContain('\x1b[3');
  const quiet = await must('script', '-qec', line('NO_COLOR=1 FORCE_COLOR='), '/dev/null');
  expect(quiet).toContain('guest sees');
  expect(quiet).not.toContain('\x1b');
});

test('a disk without bytes, and one line for each of 40 columns', async () => {
  const images = await stack(TWO);
  await images.create('empty.qcow2', '0');
  const { stdout } = await limited(['chain', 'empty.qcow2'], images.dir);
  expect(stdout).toContain('It is empty.');
  const narrow = await limited(['chain', 'top.qcow2'], images.dir, { COLUMNS: '40' });
  for (const line of narrow.stdout.split('\n')) expect([...line].length).toBeLessThanOrEqual(40);
});

test('200 layers of 16 TiB take little memory and time', async () => {
  const images = await stack(TWO, { size: '16T' });
  const header = readFileSync(images.path('top.qcow2'));
  const at = header.indexOf('base.qcow2');
  for (let i = 1; i < 199; i++) {
    const copy = Buffer.from(header);
    const below = i === 1 ? 'top.qcow2' : `layer${i - 1}`;
    copy.write(below.padEnd(10, '\0'), at, 'latin1');
    copy.writeUInt32BE(below.length, 16);
    writeFileSync(images.path(`layer${i}`), copy);
  }
  const limits = ['--as=1600000000', '--cpu=30', process.execPath, CLI];
  const text = await must('prlimit', ...limits, 'chain', images.path('layer198'));
  expect(text).toMatch(/^16 TiB disk in 200 layers/);
});
