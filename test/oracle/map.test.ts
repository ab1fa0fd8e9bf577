// `map` beside the real qemu-img: the same bytes and exit codes, over every kind of cluster, and over
// random chains.

import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runMap } from '../../src/cli/map.ts';
import { reportError } from '../../src/cli/program.ts';
import { chainSpecsInOneFile } from '../support/arbitraries.ts';
import { buildChain } from '../support/build-chain.ts';
import { asQemu } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { keptOutput } from '../support/output.ts';
import { type Outcome, run } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const ours = asQemu();
const template = makeTemp();
afterAll(() => {
  ours.remove();
  template.cleanup();
});

beforeAll(async () => {
  const images = new Images(template.dir);
  await images.create('r.raw', '3M');
  await images.io('r.raw', 'write -P 1 0 64k', 'write -P 2 1M 4k', 'write -P 3 2M 700');
  await images.create('odd.raw', '1000');
  await images.io('odd.raw', 'write -P 1 0 200');
  truncateSync(images.path('odd.raw'), 200_000);
  truncateSync(images.path('odd.raw'), 199_999);
  await images.create('b.qcow2', '4M', { backing: 'r.raw', options: 'cluster_size=4k' });
  await images.io('b.qcow2', 'write -P 1 1M 96k', 'write -c -P 1 2M 4k', 'write -c -P 2 2052k 4k');
  await images.create('m.qcow2', '5M', { backing: 'b.qcow2', options: 'compat=0.10' });
  await images.io('m.qcow2', 'write -P 2 512k 1M', 'write -P 3 4M 64k', 'write -z 4160k 64k');
  await images.qemuImg('snapshot', '-c', 'one', 'm.qcow2');
  await images.io('m.qcow2', 'write -P 4 512k 64k');
  await images.create('t.qcow2', '7M', { backing: 'm.qcow2' });
  await images.io('t.qcow2', 'write -P 3 3M 256k', 'write -z 3M 64k', 'write -z 4M 128k');
  await images.io('t.qcow2', 'discard 3136k 64k', 'write -P 1 6656k 64k');
  await images.create('c.qcow2', '1M');
  await images.io('c.qcow2', 'write -P 1 0 64k', 'write -c -P 1 64k 64k', 'write -P 1 256k 64k');
  for (const [name, options] of [
    ['p', 'preallocation=metadata'],
    ['p2', 'preallocation=metadata,compat=0.10,cluster_size=512'],
    ['p3', 'preallocation=metadata,cluster_size=2M'],
    ['full', 'preallocation=full'],
    ['fall', 'preallocation=falloc'],
  ] as const) {
    await images.create(`${name}.qcow2`, '8M', { options });
    await images.io(`${name}.qcow2`, 'write -P 1 1M 100k', 'write -P 1 7M 1M', 'write -z 5M 64k');
  }
  // Subclusters of all kinds, and clusters without any.
  for (const [name, options] of [
    ['x', 'extended_l2=on,cluster_size=128k'],
    ['xp', 'extended_l2=on,cluster_size=16k,preallocation=metadata'],
  ] as const) {
    await images.create(`${name}.qcow2`, '6M', { options, backing: 'b.qcow2' });
    await images.io(
      `${name}.qcow2`,
      'write -P 1 1M 3k',
      'write -z 1100k 9k',
      'write -P 2 1120k 9k',
    );
    await images.io(`${name}.qcow2`, 'write -z 2M 300k', 'write -P 3 2100k 700k', 'discard 3M 1M');
  }
  await images.io('x.qcow2', 'write -c -P 1 5M 128k', 'write -c -P 2 5248k 128k');
  await images.create('over-x.qcow2', '7M', { backing: 'x.qcow2', options: 'extended_l2=on' });
  await images.io('over-x.qcow2', 'write -P 9 1030k 1k', 'write -P 9 6500k 1k', 'write -z 5M 4k');
  await images.create('large-x.qcow2', '300G', { options: 'extended_l2=on' });
  await images.io('large-x.qcow2', 'write -P 1 200G 10M', 'write -z 31M 2M', 'write -P 1 31M 1k');
  await images.create('over-p.qcow2', '9M', { backing: 'p.qcow2' });
  await images.io('over-p.qcow2', 'write -P 1 3M 64k', 'write -P 1 8M 64k');
  await images.create('large.qcow2', '300G');
  await images.io('large.qcow2', 'write -P 1 200G 10M', 'write -P 1 31M 2M');
  await images.create('huge.qcow2', '1T', { backing: 'large.qcow2', options: 'cluster_size=2M' });
  await images.io('huge.qcow2', 'write -P 1 900G 10M', 'write -z -n 1G 5G');
  await images.create('empty.qcow2', '0');
});

const EVERY = `
r.raw odd.raw b.qcow2 m.qcow2 t.qcow2 p.qcow2 p2.qcow2 p3.qcow2 full.qcow2 fall.qcow2 over-p.qcow2
large.qcow2 huge.qcow2 empty.qcow2 c.qcow2 x.qcow2 xp.qcow2 over-x.qcow2 large-x.qcow2
`;
const EXTRA = `
map -f raw t.qcow2
map -f qcow2 ./t.qcow2
map --format=raw --output=json r.raw
map --output=json -s 1M t.qcow2
map --output=json -s 1M -l 1M t.qcow2
map --output=json --start-offset=0x100 --max-length=1.5k b.qcow2
map --start-offset 3000k --max-length 100 t.qcow2
map --output=json -s 5000001 -l 3 p.qcow2
map --output=json -s 7M t.qcow2
map --output=json -s 1048600 -l 200000 over-x.qcow2
map --output=json -s 7E -l 7E t.qcow2
map -s 8M t.qcow2
map -l 0 t.qcow2
map --output=json -l 0 t.qcow2
map -U t.qcow2
map --force-share t.qcow2
map --output human t.qcow2
map --output=json --image-opts driver=qcow2,file.filename=t.qcow2
map --image-opts driver=raw,file.filename=r.raw
map --image-opts driver=raw,offset=512k,size=2M,file.filename=r.raw
map --output=json --image-opts driver=raw,offset=512k,size=2M,file.filename=r.raw
map --output=json --image-opts driver=raw,offset=64k,file.driver=raw,file.offset=1M,file.file.filename=r.raw
map --output=json --image-opts driver=raw,offset=64k,file.driver=blkdebug,file.image.filename=r.raw
map --output=json -s 100k -l 1M --image-opts driver=raw,offset=512k,size=2M,file.filename=r.raw
map --object secret,id=s,data=abc r.raw
map --object foo t.qcow2
map --object secret,id=a t.qcow2
map -f qcow2 --image-opts driver=qcow2,file.filename=t.qcow2
map --image-opts t.qcow2
map
map a b
map nope
map .
map -f foo t.qcow2
map -f qcow2 r.raw
map --output=x t.qcow2
map --output
map -Z t.qcow2
map --nosuch t.qcow2
map -s
map -s abc t.qcow2
map -s -1 t.qcow2
map -s 1.5 t.qcow2
map -s 8E t.qcow2
map -l 99999999999999999999 t.qcow2
map -l 1Z t.qcow2
map -l= t.qcow2
`;

const lines = [
  ...EVERY.trim()
    .split(/\s+/)
    .flatMap((name) => [`map ${name}`, `map --output=json ${name}`]),
  ...EXTRA.trim().split('\n'),
];

test.each(lines)('qemu-img %s', async (line) => {
  const args = line.split(' ');
  const options = { cwd: template.dir };
  expect(await ours.run(args, template.dir)).toEqual(await run('qemu-img', args, options));
});

/** In this process, and so much faster. */
async function mapHere(args: readonly string[]): Promise<Outcome> {
  const output = keptOutput(true);
  const code = await runMap(args, output).catch((error: unknown) => reportError(error, output));
  return { code, stdout: output.stdout, stderr: output.stderr };
}

async function sameMap(args: readonly string[], where?: string): Promise<void> {
  expect(await mapHere(args), where).toEqual(await run('qemu-img', ['map', ...args]));
}

test.each(EVERY.trim().split(/\s+/))('the map of %s', async (name) => {
  const file = join(template.dir, name);
  await sameMap([file]);
  await sameMap(['--output=json', file]);
});

test('random chains', { timeout: 300_000 }, () =>
  fc.assert(
    fc.asyncProperty(
      chainSpecsInOneFile,
      fc.nat(2 ** 22),
      fc.nat(2 ** 21),
      async (spec, start, length) => {
        const { dir, cleanup } = makeTemp();
        const commands: string[] = [];
        try {
          const top = (await buildChain(spec, dir, commands)).layers.at(-1);
          if (top === undefined) throw new Error('a chain without layers');
          const file = join(dir, top.name);
          const where = commands.join('\n');
          await sameMap([file], where);
          await sameMap(['--output=json', file], where);
          await sameMap(['--output=json', `-s${start}`, `-l${length}`, file], where);
        } finally {
          cleanup();
        }
      },
    ),
    { seed: 7, numRuns: 40 },
  ),
);
