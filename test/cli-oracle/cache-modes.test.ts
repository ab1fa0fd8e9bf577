// Cache modes as the system sees them: which flags files are opened with, beside QEMU; what is synced.

import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { asQemu, CLI } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { ramDisk, whyNoMounts } from '../support/mounts.ts';
import { checkClean, run } from '../support/qemu.ts';
import { tempDir } from '../support/temp.ts';

const MODES = ['none', 'directsync', 'writethrough', 'writeback', 'unsafe'];
const traced = (await run('strace', ['-V']).catch(() => ({ code: 1 }))).code === 0;
const withStrace = traced ? describe : describe.skip;

interface Traced {
  /** Files that were opened around the page cache, for reading or writing. */
  readonly direct: readonly string[];
  readonly syncs: number;
}

/** What a command does to files, by strace. */
async function trace(dir: string, command: readonly string[]): Promise<Traced> {
  const log = join(tempDir(), 'log');
  const calls = 'trace=openat,open,fdatasync';
  const { code, stderr } = await run('strace', ['-f', '-e', calls, '-o', log, ...command], {
    cwd: dir,
  });
  expect(`${code} ${stderr}`).toBe('0 ');
  const text = readFileSync(log, 'utf8');
  const direct = new Set<string>();
  for (const [, name, flags = ''] of text.matchAll(/"([^"]+\.qcow2)", (O_[A-Z_|]+)/g)) {
    if (!flags.includes('O_DIRECT')) continue;
    direct.add(`${name} ${flags.includes('O_RDWR') ? 'written' : 'read'}`);
  }
  return { direct: [...direct].sort(), syncs: [...text.matchAll(/ fdatasync\(/g)].length };
}

async function chain(): Promise<Images> {
  const images = new Images();
  await images.create('base.qcow2', '8M');
  await images.create('top.qcow2', '8M', { backing: 'base.qcow2' });
  await images.create('other.qcow2', '8M');
  await images.io('base.qcow2', 'write -P 1 0 4M');
  await images.io('top.qcow2', 'write -P 3 1M 2M', 'write -P 4 5000k 3k', 'write -z 6M 1M');
  return images;
}

withStrace(traced ? 'as strace tells them' : 'strace is not installed', () => {
  const VERBS: readonly (readonly [string, (mode: string) => readonly string[]])[] = [
    ['commit', (mode) => ['commit', '-q', '-t', mode, 'top.qcow2']],
    ['check', (mode) => ['check', '-q', '-T', mode, 'top.qcow2']],
    ['compare', (mode) => ['compare', '-q', '-T', mode, 'top.qcow2', 'top.qcow2']],
  ];
  const cases = VERBS.flatMap(([verb, args]) => MODES.map((mode) => ({ verb, mode, args })));

  test.each(cases)('$verb, $mode: around the page cache where QEMU goes', async (each) => {
    const images = await chain();
    const view = await images.view('top.qcow2');
    const rival = tempDir();
    cpSync(images.dir, rival, { recursive: true });
    const args = each.args(each.mode);
    const theirs = await trace(rival, ['qemu-img', ...args]);
    const ours = await trace(images.dir, [process.execPath, CLI, ...args]);
    // A check opens the image alone, where QEMU opens those below, too.
    const wanted = each.verb === 'check' ? /^top/ : /./;
    expect(ours.direct).toEqual(theirs.direct.filter((name) => wanted.test(name)));
    if (each.mode === 'unsafe') expect(ours.syncs).toBe(0);
    expect((await images.view('top.qcow2')).equals(view)).toBe(true);
    for (const name of ['base.qcow2', 'top.qcow2']) await checkClean(images.path(name));
  });
});

const noMounts = whyNoMounts();
const onRamDisk = noMounts === undefined ? test : test.skip;

onRamDisk(`a file system that can't: refused in QEMU's words ${noMounts ?? ''}`, async () => {
  const images = await chain();
  const dir = ramDisk();
  for (const name of ['base.qcow2', 'top.qcow2']) cpSync(images.path(name), join(dir, name));
  const qemu = asQemu();
  for (const args of [
    ['commit', '-t', 'none', 'top.qcow2'],
    ['check', '-T', 'directsync', 'top.qcow2'],
    ['compare', '-T', 'none', 'top.qcow2', 'base.qcow2'],
  ]) {
    const theirs = await run('qemu-img', args, { cwd: dir });
    expect(theirs.stderr).toContain('filesystem does not support O_DIRECT');
    expect(await qemu.run(args, dir)).toEqual(theirs);
  }
  qemu.remove();
});
