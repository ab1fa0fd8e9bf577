// Images with extended L2 entries beside the real programs: what a check finds in them, sound and
// damaged, and what is read and written in place by both sides in turn.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runCheck } from '../../src/cli/check.ts';
import { reportError } from '../../src/cli/program.ts';
import { openChain } from '../../src/index.ts';
import { Images } from '../support/images.ts';
import { keptOutput } from '../support/output.ts';
import { checkClean, type Outcome, run } from '../support/qemu.ts';

const KIB = 1024;

async function checkHere(args: readonly string[]): Promise<Outcome> {
  const output = keptOutput(true);
  const code = await runCheck(args, output).catch((error: unknown) => reportError(error, output));
  return { code, stdout: output.stdout, stderr: output.stderr };
}

/** Clusters of 16 KiB: two of data, the second in part; one compressed; zeros without a cluster. */
async function subclusters(): Promise<Images> {
  const images = new Images();
  await images.create('x.qcow2', '1M', { options: 'extended_l2=on,cluster_size=16k' });
  await images.io('x.qcow2', 'write -P 1 0 16k', 'write -P 2 16k 3k', 'write -c -P 3 64k 16k');
  await images.io('x.qcow2', 'write -z 100k 3k', 'write -P 4 200k 1k', 'write -P 5 90k 4k');
  return images;
}

const at = (view: DataView, position: number) =>
  Number(view.getBigUint64(position) & (2n ** 56n - 512n));

interface Damage {
  /** Index of the entry in the L2 table. */
  readonly index: number;
  readonly entry?: (old: bigint) => bigint;
  readonly bitmap?: bigint;
}

const DAMAGES: Readonly<Record<string, Damage>> = {
  none: { index: 0 },
  'both bits of each': { index: 1, bitmap: 2n ** 64n - 1n },
  'both bits of one': { index: 0, bitmap: 0x1_ffff_ffffn },
  'allocated without a cluster': { index: 3, bitmap: 0x30_0000_0001n },
  'a bitmap of a compressed cluster': { index: 4, bitmap: 0x3_0000_0001n },
  'the zero flag': { index: 1, entry: (old) => old | 1n },
  'a reserved bit': { index: 1, entry: (old) => old | 4n },
  'not aligned': { index: 1, entry: (old) => old + 512n },
  'not COPIED': { index: 1, entry: (old) => old & ~(1n << 63n) },
  'room without any data': { index: 1, bitmap: 0n },
};

test.each(Object.entries(DAMAGES))('check: %s', async (_what, { index, entry, bitmap }) => {
  const images = await subclusters();
  const file = images.path('x.qcow2');
  const bytes = readFileSync(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const position = at(view, at(view, 40)) + index * 16;
  if (entry) view.setBigUint64(position, entry(view.getBigUint64(position)));
  if (bitmap !== undefined) view.setBigUint64(position + 8, bitmap);
  writeFileSync(file, bytes);
  for (const args of [[file], ['--output=json', file]]) {
    expect(await checkHere(args)).toEqual(await run('qemu-img', ['check', ...args]));
  }
});

test('both sides write in turn into the subclusters of one image', async () => {
  const images = new Images();
  await images.create('below.raw', '1M');
  await images.io('below.raw', 'write -P 9 0 1M');
  const options = 'extended_l2=on,cluster_size=64k';
  await images.create('x.qcow2', '1M', { options, backing: 'below.raw' });
  const expected = new Uint8Array(KIB * KIB).fill(9);
  const fill = (value: number, from: number, length: number) =>
    expected.fill(value, from * KIB, (from + length) * KIB);
  for (let turn = 0; turn < 4; turn++) {
    const base = turn * 37;
    await images.io('x.qcow2', `write -P ${turn + 1} ${base}k 3k`, `write -z ${base + 90}k 8k`);
    await images.qemuImg('snapshot', '-c', `s${turn}`, 'x.qcow2');
    fill(turn + 1, base, 3);
    fill(0, base + 90, 8);
    const chain = await openChain(images.path('x.qcow2'), { writable: true });
    await chain.write((base + 92) * KIB, new Uint8Array(3 * KIB).fill(turn + 50));
    await chain.zero((base + 1) * KIB, KIB);
    await chain.close();
    fill(turn + 50, base + 92, 3);
    fill(0, base + 1, 1);
    await checkClean(images.path('x.qcow2'));
    expect((await images.view('x.qcow2')).equals(expected), `turn ${turn}`).toBe(true);
  }
});
