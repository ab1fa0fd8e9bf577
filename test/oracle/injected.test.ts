// Commits whose disks fail on purpose, by the same rules of blkdebug through the real qemu-img and
// through ours: the same exit code and last word; and whatever failed, our images stay sound.

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import { compare, type Outcome, qemuImg, qemuIo, run } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const ours = asQemu();
const template = makeTemp();
afterAll(() => {
  ours.remove();
  template.cleanup();
});

beforeAll(async () => {
  const at = (name: string) => join(template.dir, name);
  await qemuImg('create', '-q', '-f', 'qcow2', at('b.qcow2'), '3M');
  await qemuIo(at('b.qcow2'), ['write -P 1 0 1M']);
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'b.qcow2', '-F', 'qcow2', at('t.qcow2'), '4M');
  await qemuIo(at('t.qcow2'), ['write -P 2 512k 1M', 'write -P 3 3M 64k', 'write -z 2M 128k']);
  await qemuImg('convert', '-O', 'raw', at('t.qcow2'), at('view.raw'));
});

interface Rule {
  readonly event: string;
  readonly [key: string]: string | number | boolean;
}
interface Rules {
  readonly 'inject-error': readonly Rule[];
  readonly 'set-state'?: readonly Rule[];
}

const under = (filename: string, rules: Rules) => ({
  driver: 'qcow2',
  file: { driver: 'blkdebug', image: { driver: 'file', filename }, ...rules },
});
const lastLine = ({ code, stdout, stderr }: Outcome) => ({
  code,
  stdout,
  last: stderr.trimEnd().split('\n').at(-1),
});

/** Base fails: its overlay names it by a description that says when. */
async function faultyBase(dir: string, rules: Rules): Promise<readonly string[]> {
  const name = `json:${JSON.stringify(under('b.qcow2', rules))}`;
  await qemuImg('rebase', '-u', '-b', name, '-F', 'qcow2', join(dir, 't.qcow2'));
  return ['commit', 't.qcow2'];
}

const faultyTop = async (_dir: string, rules: Rules): Promise<readonly string[]> => [
  'commit',
  `json:${JSON.stringify(under('t.qcow2', rules))}`,
];

type Prepare = (dir: string, rules: Rules) => Promise<readonly string[]>;

async function both(prepare: Prepare, rules: Rules): Promise<void> {
  // Not one that is bound to the test that runs: several do.
  const { dir, cleanup } = makeTemp();
  try {
    await compareIn(dir, prepare, rules);
  } finally {
    cleanup();
  }
}

async function compareIn(dir: string, prepare: Prepare, rules: Rules): Promise<void> {
  const [theirDir, myDir] = [join(dir, 'theirs'), join(dir, 'mine')];
  const outcomes: Outcome[] = [];
  for (const each of [theirDir, myDir]) {
    cpSync(template.dir, each, { recursive: true });
    const args = await prepare(each, rules);
    outcomes.push(
      each === myDir ? await ours.run(args, each) : await run('qemu-img', args, { cwd: each }),
    );
  }
  const [theirs, mine] = outcomes as [Outcome, Outcome];
  await isSound(myDir);
  expect(lastLine(mine)).toEqual(lastLine(theirs));
}

/** No corruption, the view as before, and the same command finishes once the disk is well. */
async function isSound(dir: string): Promise<void> {
  const at = (name: string) => join(dir, name);
  await qemuImg('rebase', '-u', '-b', 'b.qcow2', '-F', 'qcow2', at('t.qcow2'));
  for (const name of ['b.qcow2', 't.qcow2']) {
    const { code, stdout } = await run('qemu-img', ['check', '-f', 'qcow2', at(name)]);
    expect([0, 3], stdout).toContain(code);
  }
  await compare(at('t.qcow2'), 'qcow2', at('view.raw'), 'raw');
  expect(await ours.run(['commit', 't.qcow2'], dir)).toMatchObject({ code: 0 });
  await compare(at('b.qcow2'), 'qcow2', at('view.raw'), 'raw');
}

const inject = (event: string, more: Partial<Rule> = {}): Rules => ({
  'inject-error': [{ event, ...more } as Rule],
});
const NO_SPACE = { errno: 28 };

test.concurrent.each<[string, Rules]>([
  ['no write of data finds room', inject('write_aio', NO_SPACE)],
  ['one write of data fails', inject('write_aio', { once: true })],
  ['no L2 table can be written', inject('l2_update', NO_SPACE)],
  ['one L2 table can not be written', inject('l2_update', { once: true })],
  ['no L2 table can be read', inject('l2_load')],
  ['one refcount block can not be written', inject('refblock_update_part', { once: true })],
  ['a cluster is taken', inject('cluster_alloc', NO_SPACE)],
  ['one flush fails', inject('flush_to_disk', { once: true })],
  ['every flush fails', inject('flush_to_os')],
  ['every write fails', inject('pwritev')],
  ['an event that does not happen', inject('vmstate_save')],
  ['another kind of request', inject('write_aio', { iotype: 'discard' })],
  ['a sector that is not written', inject('write_aio', { sector: 1_000_000 })],
  ['no error at all', inject('write_aio', { errno: 0 })],
  ['a state that is never reached', inject('write_aio', { state: 5 })],
  [
    'the second write of data',
    {
      'set-state': [{ event: 'write_aio', state: 1, new_state: 2 }],
      'inject-error': [{ event: 'write_aio', state: 2, errno: 28, once: true }],
    },
  ],
])('base fails: %s', (_what, rules) => both(faultyBase, rules));

test.concurrent.each<[string, Rules]>([
  ['no data can be read', inject('read_aio')],
  ['one read of data fails', inject('read_aio', { once: true })],
  ['no L2 table can be read', inject('l2_load')],
  ['nothing can be read', inject('none')],
  ['a write of data, which there is none', inject('write_aio')],
  ['for a reason of its own', inject('read_aio', { errno: 13 })],
])('the top fails: %s', (_what, rules) => both(faultyTop, rules));
