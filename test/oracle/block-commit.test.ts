// block-commit beside qemu-storage-daemon's: the same answers to what the recorded dialogues don't have,
// the same locks in each state, and results that QEMU's own tools judge.

import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { nodeHost } from '../../src/io/node-host.ts';
import { lockedBytes } from '../support/held-bytes.ts';
import { lead, withoutTiming } from '../support/job-dialogue.ts';
import { LiveChain, RECORDED } from '../support/live-chain.ts';
import { checkClean, compare, infoOf, qemuImg, qemuIo } from '../support/qemu.ts';
import { QemuDaemon } from '../support/qemu-daemon.ts';
import { tempDir } from '../support/temp.ts';

const NAMES = ['base', 'mid', 'top'] as const;

/** base <- mid <- top as in the dialogues, twice: in `ours` and in `theirs`. */
async function twoChains(): Promise<{ readonly ours: string; readonly theirs: string }> {
  const dir = tempDir();
  const [ours, theirs] = [join(dir, 'ours'), join(dir, 'theirs')];
  mkdirSync(ours);
  const file = (name: string) => join(ours, `${name}.qcow2`);
  for (const [i, { name, writes = [] }] of RECORDED.entries()) {
    const below = RECORDED[i - 1]?.name;
    const backing = below === undefined ? [] : ['-b', `${below}.qcow2`, '-F', 'qcow2'];
    await qemuImg('create', '-q', '-f', 'qcow2', ...backing, file(name), '8M');
    await qemuIo(
      file(name),
      writes.map(([at, length, byte]) => `write -P ${byte} ${at} ${length}`),
    );
  }
  cpSync(ours, theirs, { recursive: true });
  return { ours, theirs };
}

const byReference = NAMES.flatMap((name, i) => {
  const file = { driver: 'file', filename: `${name}.qcow2`, 'node-name': `f${name[0]}` };
  const backing = NAMES[i - 1] ?? null;
  const format = { driver: 'qcow2', 'node-name': name, file: `f${name[0]}`, backing };
  return ['--blockdev', JSON.stringify(file), '--blockdev', JSON.stringify(format)];
});

const byName = (dir: string) => {
  const file = { driver: 'file', filename: `${dir}/top.qcow2` };
  return { driver: 'qcow2', 'node-name': 'top', file };
};

type Said = readonly [command: string, args?: Readonly<Record<string, unknown>>];

const COMMIT = { 'job-id': 'j', device: 'top', 'top-node': 'mid' };
const commit = (more: object): Said => ['block-commit', { ...COMMIT, ...more }];
const SLOW = { speed: 65_536 };

/** One after the other; the job is slow, so that it rests when the next one comes. */
const SAID: readonly Said[] = [
  commit({ 'filter-node-name': 'mid' }),
  commit({ 'filter-node-name': '1x' }),
  commit({ speed: -1 }),
  commit({ 'job-id': 'a b' }),
  commit({ 'job-id': '' }),
  commit({ 'base-node': 'base', base: 'x' }),
  commit({ 'backing-file': 'foo', 'top-node': 'top' }),
  commit({ 'top-node': 'base' }),
  commit({ device: 'mid', 'top-node': 'base' }),
  commit({ top: 'y' }),
  commit({ 'base-node': 'top' }),
  commit({ ...SLOW, 'filter-node-name': 'cf', 'auto-dismiss': false }),
  commit({}),
  commit({ 'job-id': 'k' }),
  ['job-finalize', { id: 'j' }],
  ['job-dismiss', { id: 'j' }],
  ['job-complete', { id: 'j' }],
  ['job-resume', { id: 'j' }],
  ['job-pause', { id: 'j' }],
  ['job-pause', { id: 'j' }],
  ['block-job-set-speed', { device: 'j', speed: 100_000 }],
  ['query-jobs'],
  ['job-cancel', { id: 'j' }],
  ['query-jobs'],
  ['query-block-jobs'],
  ['job-cancel', { id: 'j' }],
  ['block-job-cancel', { device: 'j' }],
  ['job-pause', { id: 'j' }],
  ['job-resume', { id: 'j' }],
  ['block-job-set-speed', { device: 'j', speed: 1 }],
  commit({}),
  ['job-dismiss', { id: 'j' }],
  commit(SLOW),
  ['job-pause', { id: 'j' }],
  ['block-job-cancel', { device: 'j' }],
  ['block-job-cancel', { device: 'j', force: true }],
  ['block-job-cancel', { device: 'j' }],
];

test('the same answers', { timeout: 60_000 }, async () => {
  const { ours, theirs } = await twoChains();
  const live = new LiveChain(nodeHost);
  await live.addAll(RECORDED, (name) => join(ours, `${name}.qcow2`));
  const qemu = await QemuDaemon.start(theirs, byReference);
  /** The first piece is copied, and it waits for seconds. */
  const waits = async () => {
    for (;;) {
      const { return: jobs } = (await qemu.say('query-jobs')).at(-1) ?? {};
      const [job] = (jobs ?? []) as { readonly 'current-progress': number }[];
      if (job === undefined || job['current-progress'] > 1_048_576) return;
      await live.host.sleep(20);
    }
  };
  for (const [command, args = {}] of SAID) {
    const answers = await lead(live, { command, args, answers: [] });
    const wanted = await qemu.say(command, args);
    expect({ command, args, answers: withoutTiming(answers) }).toEqual({
      ...{ command, args },
      answers: withoutTiming(wanted),
    });
    if (command === 'block-commit') await waits();
  }
  await qemu.quit();
  await live.close();
});

test('the same locks before, during and after', { timeout: 60_000 }, async () => {
  const { ours, theirs } = await twoChains();
  const live = new LiveChain(nodeHost);
  await live.add(byName(ours));
  const blockdev = ['--blockdev', JSON.stringify(byName(theirs))];
  const qemu = await QemuDaemon.start(theirs, blockdev);
  const same = (when: string) => {
    const locks = (dir: string) => NAMES.map((name) => lockedBytes(join(dir, `${name}.qcow2`)));
    expect({ when, locks: locks(ours) }).toEqual({ when, locks: locks(theirs) });
  };
  const say = async (command: string, args: Readonly<Record<string, unknown>>) => {
    await lead(live, { command, args, answers: [] });
    await qemu.say(command, args);
  };
  const args = { device: 'top', 'job-id': 'j', top: 'mid.qcow2' };
  same('before');
  await say('block-commit', { ...args, ...SLOW });
  same('while it runs');
  await say('job-cancel', { id: 'j' });
  same('when it was cancelled');
  await say('block-commit', { ...args, 'auto-finalize': false });
  await live.run();
  await qemu.until('pending');
  same('before it is finalized');
  await say('job-finalize', { id: 'j' });
  same('afterwards');
  await qemu.quit();
  await live.close();
});

test('the same files', { timeout: 60_000 }, async () => {
  const { ours, theirs } = await twoChains();
  const live = new LiveChain(nodeHost);
  const top = await live.add(byName(ours));
  const args = { device: 'top', 'job-id': 'j', top: 'mid.qcow2' };
  await live.commit({ ...args, speed: 4_194_304 });
  for (let i = 0; i < 16; i++) {
    // Over what is copied, beside it, and where nobody has written.
    await top.layer.write(i * 520_000, new Uint8Array(70_000).fill(0x80 + i));
    await live.host.sleep(10);
  }
  await live.run();
  expect(live.told().at(-1)).toBe('null');
  await live.close();

  const qemu = await QemuDaemon.start(theirs, ['--blockdev', JSON.stringify(byName(theirs))]);
  await qemu.say('block-commit', args);
  await qemu.until('null');
  await qemu.quit();
  const file = (dir: string, name: string) => join(dir, `${name}.qcow2`);
  await qemuIo(
    file(theirs, 'top'),
    Array.from({ length: 16 }, (_, i) => `write -P ${0x80 + i} ${i * 520_000} 70000`),
  );
  for (const name of NAMES) {
    await checkClean(file(ours, name));
    await compare(file(ours, name), 'qcow2', file(theirs, name), 'qcow2');
  }
  for (const dir of [ours, theirs]) {
    const info = await infoOf(file(dir, 'top'));
    expect(info['backing-filename']).toMatch(/^(.*\/)?base\.qcow2$/);
    expect(info['backing-filename-format']).toBe('qcow2');
  }
});
