// The same lines sent to QEMU's storage daemon and to ours, byte for byte: the same comes back.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Client, MONITOR, startDaemon, type Whose } from '../support/daemon.ts';
import { mustIn } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

/** What neither is the same by chance nor depends on the clock. */
function withoutChance(text: string): string {
  return text
    .replace(/"(seconds|microseconds)": \d+/g, '"$1": 0')
    .replace(/"(offset|current-progress)": \d+/g, '"$1": 0')
    .replace(/"busy": (true|false)/g, '"busy": 0')
    .replace(/"qemu": \{[^}]*\}, "package": "[^"]*"/g, '"version"')
    .replace(/#block\d+/g, '#block');
}

/** Comes back whatever was sent before: the byte puts an end to anything half-sent. */
const mark = (i: number) =>
  Buffer.concat([
    Buffer.from([0xff]),
    Buffer.from(`{"execute": "query-version", "id": "mark ${i}"}\n`),
  ]);

async function answers(
  whose: Whose,
  lines: readonly (string | Uint8Array)[],
  options: readonly string[] = [],
  prepare: (dir: string) => Promise<void> = async () => undefined,
): Promise<readonly string[]> {
  const dir = tempDir();
  await prepare(dir);
  startDaemon(whose, [...MONITOR, ...options], dir);
  const client = await Client.connect(join(dir, 'qmp.sock'));
  const got = [withoutChance(await client.textUntil(/\r\n/))];
  for (const [i, line] of lines.entries()) {
    client.send(typeof line === 'string' ? `${line}\n` : line);
    client.send(mark(i));
    const text = await client.textUntil(new RegExp(`^.*mark ${i}"[^\\n]*\\n`, 'm'));
    got.push(withoutChance(text.replaceAll(dir, 'DIR')));
  }
  return got;
}

async function expectSame(...given: [lines: readonly (string | Uint8Array)[], ...Rest]) {
  const [lines, ...rest] = given;
  const [ours, theirs] = await Promise.all([
    answers('ours', lines, ...rest),
    answers('qemu', lines, ...rest),
  ]);
  const shown = (all: readonly string[]) =>
    all.map((text, i) => `${String(lines[i - 1])}\n${text}`);
  expect(shown(ours)).toEqual(shown(theirs));
}
type Rest = [options?: readonly string[], prepare?: (dir: string) => Promise<void>];

const NEGOTIATE = '{"execute": "qmp_capabilities"}';
const bytes = (...values: readonly (string | number)[]) =>
  Buffer.concat(
    values.map((value) => (typeof value === 'string' ? Buffer.from(value) : Buffer.from([value]))),
  );

test('before and after the negotiation', () =>
  expectSame([
    '{"execute": "query-jobs"}',
    '{"execute": "qmp_capabilities", "arguments": {"enable": ["foo"]}}',
    '{"execute": "qmp_capabilities", "arguments": {"enable": "foo"}}',
    '{"execute": "qmp_capabilities", "arguments": {"bar": 1}}',
    '{"exec-oob": "qmp_capabilities"}',
    '{"execute": "nosuch"}',
    '{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}, "id": 1}',
    NEGOTIATE,
    '{"exec-oob": "query-jobs", "id": 3}',
    '{"exec-oob": "nosuch", "id": 4}',
    '{"execute": "query-jobs", "exec-oob": "query-jobs", "id": 5}',
  ]));

test('what is no command', () =>
  expectSame([
    NEGOTIATE,
    ...['[]', '1', '"x"', 'null', 'true', '{}', '[1,2]', '{"id": 5}', '{"execute": 5}'],
    '{"execute": null}',
    '{"execute": "query-jobs", "arguments": 5}',
    '{"execute": "query-jobs", "arguments": []}',
    '{"execute": "query-jobs", "arguments": null}',
    '{"exec-oob": 5}',
    '{"exec-oob": "query-jobs"}',
    '{"execute": "query-jobs", "bogus": 1, "id": 7}',
    '{"bogus": 1, "id": 7}',
    '{"execute": "query-jobs", "arguments": {"x": 1, "y": 2}}',
    '{"execute": "query-jobs", "arguments": {"alpha": 1, "beta": 2, "gamma": 3, "id": 4}}',
    '{"execute": "query-jobs", "execute": "query-version"}',
    '{"execute": "\\u001b"}',
    '{"execute": "a\\u007fb\\u0080"}',
  ]));

const IDS = [
  '{"a": [1, "x", null, 1.5, -0.0, 1e10, 18446744073709551615, -9223372036854775808]}',
  ...['null', 'true', '0.1', '"\\u00e9\\n\'\\""', '1e400', '-0', '1.0', '1.5e-7', '1e22', '[]'],
  ...['123456789012345678.0', '9'.repeat(30), `-${'9'.repeat(30)}`, '-1e-5', '12345678.9e3'],
  '{"execute": 1, "arguments": 2, "id": 3, "return": 4, "error": 5, "event": 6}',
  '{"major": 1, "minor": 2, "micro": 3, "inject-error.0.event": 4, "inject-error.0.errno": 5}',
];

test('ids of any kind come back', () =>
  expectSame([NEGOTIATE, ...IDS.map((id) => `{"execute": "query-jobs", "id": ${id}}`)]));

test('what is no JSON, and where the next command begins', () =>
  expectSame([
    NEGOTIATE,
    ...['not json', '{"execute" "x"}', '{"a": 1,}', '{,}', '{1: 2}', '{"a":}', '{"a": 1 "b"}'],
    ...['[1 2]', '[1,]', '{"a"}', '}', '{]', '[}', '{"a": [}', '', '\r\n\t ', '"abc', '%', '01 '],
    ...[
      '-x',
      '1.x',
      '1ex',
      '1e+x',
      '1.5.5',
      'ABC def',
      'tRue',
      '-',
      'nullx',
      'null"x"',
      '00',
      '-01',
    ],
    ...[
      '{"execute": "query-jobs"}{"execute": "query-jobs"} {"execute": "query-jobs"}',
      "{'a'",
      '[',
    ],
    ..."{'execute': 'query-jobs', 'id': '\\\"\\''}".split('|'),
    ...['"\\x"', '"\\u00zz"', '"\\ud800"', '"\\ud83d\\u0041"', '"\\udc00x"', '"\\ufffe"', '"\\u12'],
    ...["{'\\ud83d\\ude00': 1}", "{'\\u0000': 1}", '"a\tb"', '"\\', "'\\'", '{"a": "\\uD83D"}'],
    bytes(0x01, NEGOTIATE, '\n'),
    bytes(0xff, NEGOTIATE, '\n'),
    bytes(0xfe, 0xff, NEGOTIATE, '\n'),
    bytes('"', 0xc3, '"\n'),
    bytes("{'", 0xc3, 0xa9, "': 1}\n"),
    bytes("{'", 0xc3, "': 1}\n"),
    bytes('"', 0xed, 0xa0, 0x80, '"\n'),
    bytes('"', 0xf4, 0x90, 0x80, 0x80, '"\n'),
    bytes('abc', 0x00, 'def\n'),
    bytes('"abc', 0x00, 'def"\n'),
    ...['['.repeat(1024), `${'['.repeat(1024)}${']'.repeat(1024)}`, '['.repeat(1025)],
    ...['{"a":'.repeat(600), `${'{"a":'.repeat(512)}1${'}'.repeat(512)}`, ']'.repeat(3)],
  ]));

test('random lines, of what JSON is made of', () => {
  let state = 20_260_728;
  const next = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const parts = ['{', '}', '[', ']', ':', ',', '"', "'", '\\', ' ', '1', '0', '-', '.', 'e', 'E'];
  const words = ['"execute"', '"query-jobs"', '"id"', 'true', 'null', 'x', '\\u00', '"arguments"'];
  const all = [...parts, ...parts, ...words, '{"execute": "query-jobs"}', '\t', '\x01'];
  const line = () => Array.from({ length: 1 + next(12) }, () => all[next(all.length)]).join('');
  return expectSame([NEGOTIATE, ...Array.from({ length: 400 }, line)]);
});

const say = (execute: string, args?: object) =>
  JSON.stringify({ execute, ...(args && { arguments: args }) });

test('arguments are checked', () =>
  expectSame([
    NEGOTIATE,
    say('block-job-cancel', { device: 5 }),
    say('block-job-cancel', { device: 'x', force: 1 }),
    say('block-job-set-speed', { device: 'x', speed: 1.5 }),
    '{"execute": "block-job-set-speed", "arguments": {"device": "x", "speed": 18446744073709551615}}',
    say('block-job-set-speed', { device: 'x', speed: '5' }),
    ...[{ speed: 5 }, {}, undefined].map((args) => say('block-job-set-speed', args)),
    ...[{ device: null }, { device: 'a', 'on-error': 5 }, { device: 'a', speed: null }].map(
      (args) => say('block-commit', args),
    ),
    say('block-commit', { device: 'a', 'auto-finalize': 'on' }),
    say('block-commit', { device: 'a', 'on-error': 'foo' }),
    say('block-commit', { device: 'a', foo: 1 }),
    ...[{}, { driver: 'qcow2' }, { driver: 'foo' }, { driver: 'null-co' }].map((args) =>
      say('blockdev-add', args),
    ),
    ...[{}, { filename: 5 }, { filename: '/nope' }, { filename: '/nope', bla: { x: 1 } }].map(
      (more) => say('blockdev-add', { driver: 'file', 'node-name': 'a', ...more }),
    ),
    ...[{ cache: { foo: true } }, { cache: 5 }, { size: '1M' }, { 'latency-ns': -1.5 }].map(
      (more) => say('blockdev-add', { driver: 'null-co', 'node-name': 'a', ...more }),
    ),
    ...[{ file: { driver: 'file' } }, { file: 'nope' }, { file: 5 }, { file: null }].map((more) =>
      say('blockdev-add', { driver: 'qcow2', 'node-name': 'q', ...more }),
    ),
    say('blockdev-add', { driver: 'qcow2', 'node-name': 'q', file: 'x', 'overlap-check': 5 }),
    say('blockdev-add', { driver: 'qcow2', 'node-name': 'q', file: 'x', encrypt: {} }),
    ...[{ addr: 5 }, { addr: {} }, { addr: { type: 'unix' } }, { addr: { type: 'zz' } }].map(
      (args) => say('nbd-server-start', args),
    ),
    say('nbd-server-start', { addr: { type: 'unix', data: { path: '/nope/x' } } }),
    say('nbd-server-start', { addr: { type: 'unix', data: { path: 'x' } }, 'max-connections': -1 }),
    say('nbd-server-start', { addr: { type: 'unix', data: { path: 'x' } }, 'tls-creds': 'nope' }),
    ...['block-job-pause', 'block-job-resume', 'block-job-complete', 'block-job-cancel'].map(
      (name) => say(name, { device: 'nope' }),
    ),
    ...['job-pause', 'job-resume', 'job-cancel', 'job-complete', 'job-dismiss', 'job-finalize'].map(
      (name) => say(name, { id: 'nope' }),
    ),
    ...['block-job-dismiss', 'block-job-finalize'].map((name) => say(name, { id: 'nope' })),
    say('query-jobs'),
    say('query-block-jobs'),
    say('query-block'),
  ]));

async function makeChain(dir: string): Promise<void> {
  const create = ['create', '-q', '-f', 'qcow2'];
  await mustIn(dir, 'qemu-img', ...create, 'base.qcow2', '8M');
  await mustIn(dir, 'qemu-io', '-c', 'write -q -P 0x11 0 1M', 'base.qcow2');
  await mustIn(dir, 'qemu-img', ...create, '-b', 'base.qcow2', '-F', 'qcow2', 'mid.qcow2');
  await mustIn(dir, 'qemu-io', '-c', 'write -q -P 0x22 1M 2M', 'mid.qcow2');
  await mustIn(dir, 'qemu-img', ...create, '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2');
  await mustIn(dir, 'qemu-io', '-c', 'write -q -P 0x33 2M 3M', 'top.qcow2');
}

const NODES = [
  ...['base', 'mid', 'top'].map((name) => `file,node-name=f${name[0]},filename=${name}.qcow2`),
  'qcow2,node-name=base,file=fb',
  'qcow2,node-name=mid,file=fm,backing=base',
  'qcow2,node-name=top,file=ft,backing=mid',
].flatMap((options) => ['--blockdev', options]);

test('nodes and exports', () =>
  expectSame(
    [
      NEGOTIATE,
      say('query-named-block-nodes', { flat: true }),
      say('query-named-block-nodes'),
      say('blockdev-del', { 'node-name': 'zz' }),
      ...['fb', 'base', 'mid'].map((name) => say('blockdev-del', { 'node-name': name })),
      say('nbd-server-add', { device: 'x' }),
      say('nbd-server-stop'),
      say('nbd-server-remove', { name: 'x' }),
      say('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'top' }),
      say('nbd-server-start', { addr: { type: 'unix', data: { path: 'nbd.sock' } } }),
      say('nbd-server-start', { addr: { type: 'unix', data: { path: 'nbd2.sock' } } }),
      say('nbd-server-add', { device: 'top', writable: true }),
      say('nbd-server-add', { device: 'top', name: 'x', description: 'd' }),
      say('nbd-server-add', { device: 'top', name: 'x' }),
      say('nbd-server-add', { device: 'mid', name: 'm', writable: true }),
      say('block-export-add', { type: 'foo', id: 'e', 'node-name': 'x' }),
      say('block-export-add', { id: 'e', 'node-name': 'x' }),
      say('block-export-add', { type: 'nbd', id: 'e!', 'node-name': 'x', zz: 1 }),
      say('block-export-add', { type: 'nbd', id: 'e!', 'node-name': 'x' }),
      say('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'x' }),
      say('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'mid', writable: true }),
      say('block-export-add', { type: 'nbd', id: 'f', 'node-name': 'mid', name: 'x' }),
      say('block-export-add', {
        type: 'nbd',
        id: 'f',
        'node-name': 'mid',
        name: 'q',
        bitmaps: ['b'],
      }),
      say('query-block-exports'),
      ...['top', 'mid'].map((name) => say('blockdev-del', { 'node-name': name })),
      say('nbd-server-remove', { name: 'x', mode: 'safe' }),
      say('block-export-del', { id: 'e', mode: 'foo' }),
      say('block-export-del', { id: 'e' }),
      say('block-export-del', { id: 'e' }),
      say('nbd-server-stop'),
      say('query-block-exports'),
      say('blockdev-del', { 'node-name': 'fb' }),
      say('blockdev-del', { 'node-name': 'top' }),
      say('blockdev-add', { driver: 'null-co', 'node-name': 'n', size: 1024, 'read-only': true }),
      say('blockdev-add', { driver: 'null-co', 'node-name': 'n' }),
      say('blockdev-add', { driver: 'null-co', 'node-name': 'n!' }),
      say('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n', writable: true }),
      say('query-named-block-nodes', { flat: true }),
    ],
    NODES,
    makeChain,
  ));

test.each([0, 1, 2])('the end, with a job and %i exports', async (count) => {
  const exports = Array.from({ length: count }, (_, i) => [
    ...['--export', `nbd,id=e${i},node-name=top,writable=on,name=x${i}`],
  ]).flat();
  const server = ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'];
  const told = async (whose: Whose): Promise<readonly string[]> => {
    const dir = tempDir();
    await makeChain(dir);
    startDaemon(whose, [...MONITOR, ...NODES, ...server, ...exports], dir);
    const client = await Client.open(join(dir, 'qmp.sock'));
    await client.run('block-commit', { 'job-id': 'j', device: 'top', 'top-node': 'mid', speed: 1 });
    let jobs: unknown;
    do jobs = await client.run('query-block-jobs');
    while (!JSON.stringify(jobs).includes('"busy":false'));
    client.send('{"execute": "quit"}\n');
    const lines = withoutChance(await client.rest())
      .trimEnd()
      .split('\r\n');
    return lines;
  };
  expect(await told('ours')).toEqual(await told('qemu'));
});
