// Command lines, good and bad, through the real qemu-img and through ours under its name: the same
// words, the same exit code, the same images.

import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import { type Outcome, qemuImg, qemuIo, run } from '../support/qemu.ts';
import { makeTemp, tempDir } from '../support/temp.ts';

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
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'b.qcow2', '-F', 'qcow2', at('m.qcow2'), '4M');
  await qemuIo(at('m.qcow2'), ['write -P 2 512k 1M']);
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'm.qcow2', '-F', 'qcow2', at('t.qcow2'), '5M');
  await qemuIo(at('t.qcow2'), ['write -P 3 1M 3M', 'write -z 4M 128k']);
  await qemuImg('create', '-q', '-f', 'raw', at('r.raw'), '1M');
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'r.raw', '-F', 'raw', at('u.qcow2'), '2M');
  await qemuIo(at('u.qcow2'), ['write -P 4 64k 1900k']);
});

interface Compared {
  readonly theirs: Outcome;
  readonly mine: Outcome;
  readonly theirDir: string;
  readonly myDir: string;
}

async function both(
  args: readonly string[],
  prepare: (dir: string) => void | Promise<void> = () => undefined,
): Promise<Compared> {
  const dir = tempDir();
  const [theirDir, myDir] = [join(dir, 'theirs'), join(dir, 'mine')];
  for (const each of [theirDir, myDir]) {
    cpSync(template.dir, each, { recursive: true });
    await prepare(each);
  }
  const theirs = await run('qemu-img', args, { cwd: theirDir });
  const mine = await ours.run(args, myDir);
  return { theirs, mine, theirDir, myDir };
}

/** Times of progress steps and disk usage in blocks are not fixed in QEMU either. */
function normal({ code, stdout, stderr }: Outcome): Outcome {
  const steady = stdout
    .replace(/( {4}\(\d+\.\d\d\/100%\)\r)+/g, '<progress>')
    .replace(/disk size: .*/g, 'disk size')
    .replace(/"actual-size": \d+/g, '"actual-size"');
  return { code, stdout: steady, stderr };
}

const LINES = `
commit t.qcow2
commit -d t.qcow2
commit -q t.qcow2
commit -p t.qcow2
commit -p -q t.qcow2
commit -b b.qcow2 t.qcow2
commit -b ./b.qcow2 t.qcow2
commit -b m.qcow2 t.qcow2
commit -b nosuch t.qcow2
commit -b t.qcow2 t.qcow2
commit -t none t.qcow2
commit -t off t.qcow2
commit -t unsafe t.qcow2
commit -t writethrough t.qcow2
commit -t directsync t.qcow2
commit -r 100M t.qcow2
commit -r 0 t.qcow2
commit -f qcow2 -qp t.qcow2
commit -fqcow2 t.qcow2
commit t.qcow2 -d
commit --image-opts driver=qcow2,file.filename=t.qcow2
commit --image-opts file.filename=t.qcow2
commit --image-opts t.qcow2
commit --object secret,id=s,data=abc t.qcow2
commit u.qcow2
commit -b r.raw u.qcow2
commit m.qcow2
commit
commit a b
commit b.qcow2
commit nope.qcow2
commit .
commit foo:bar
commit -f raw t.qcow2
commit -f nosuch t.qcow2
commit -Z t.qcow2
commit --nosuch t.qcow2
commit -r
commit -t foo t.qcow2
commit -r abc t.qcow2
commit -r -5 t.qcow2
commit --object foo t.qcow2
commit --object secret,id=a t.qcow2
info t.qcow2
info --output=json t.qcow2
info --backing-chain t.qcow2
info --backing-chain --output=json t.qcow2
info r.raw
info --output=json r.raw
info -f raw t.qcow2
info
info a b
info nope
info .
info foo:bar
info -f foo t.qcow2
info -f qcow2 r.raw
info --output=foo t.qcow2
info --image-opts driver=qcow2,file.filename=t.qcow2
check t.qcow2
check --output=json t.qcow2
check -q t.qcow2
check r.raw
check
check nope
check -f qcow2 r.raw
check --output=x t.qcow2
check -r foo t.qcow2
create -f qcow2 x.qcow2 10M
create -f qcow2 -o cluster_size=512 x.qcow2 10M
create -f qcow2 -o cluster_size=2M x.qcow2 1G
create -f qcow2 -o compat=0.10 x.qcow2 1G
create -f qcow2 -o compat=v3 x.qcow2 1G
create -f qcow2 -o refcount_bits=1 x.qcow2 1G
create -f qcow2 -o refcount_bits=64,cluster_size=1k x.qcow2 1T
create -f qcow2 -o lazy_refcounts=on,compression_type=zstd x.qcow2 1G
create -f qcow2 -b b.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b b.qcow2 -F qcow2 x.qcow2 1G
create -f qcow2 -b r.raw -F raw -o cluster_size=1k x.qcow2
create -f qcow2 -b r.raw -F raw -o compat=0.10 x.qcow2 5M
create -f qcow2 -o backing_file=b.qcow2,backing_fmt=qcow2 x.qcow2
create -f qcow2 x.qcow2 1000
create -f qcow2 x.qcow2 1.5G
create -f qcow2 x.qcow2 0
create -f qcow2 -o size=5M x.qcow2
create -q -f qcow2 x.qcow2 1M
create -u -f qcow2 -b nope.qcow2 -F qcow2 x.qcow2 1M
create -f raw x.raw 1000
create x.raw 1M
create
create -f
create -Z
create -f qcow2 x.qcow2
create -f qcow2 x.qcow2 abc
create -f qcow2 x.qcow2 -5
create -f qcow2 x.qcow2 8E
create -f qcow2 x 1M 2M
create -f foo x.qcow2 1M
create -f qcow2 -o cluster_size=1000 x.qcow2 1M
create -f qcow2 -o cluster_size=4M x.qcow2 1M
create -f qcow2 -o cluster_size=512 x.qcow2 1T
create -f qcow2 -o refcount_bits=3 x.qcow2 1M
create -f qcow2 -o refcount_bits=8,compat=0.10 x.qcow2 1M
create -f qcow2 -o lazy_refcounts=on,compat=0.10 x.qcow2 1M
create -f qcow2 -o lazy_refcounts=maybe x.qcow2 1M
create -f qcow2 -o compression_type=zstd,compat=0.10 x.qcow2 1M
create -f qcow2 -o compression_type=foo x.qcow2 1M
create -f qcow2 -o preallocation=foo x.qcow2 1M
create -f qcow2 -o compat=2.0 x.qcow2 1M
create -f qcow2 -o foo=bar x.qcow2 1M
create -f qcow2 -o size=abc x.qcow2
create -f qcow2 -F raw x.qcow2 1M
create -f qcow2 -b nope.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b b.qcow2 -F foo x.qcow2
create -u -f qcow2 -b nope.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b x.qcow2 -F qcow2 x.qcow2 1M
create -f raw -b b.qcow2 -F qcow2 x.raw 1M
create -f raw -o cluster_size=512 x.raw 1M
create -f qcow2 nodir/x.qcow2 1M
create -f qcow2 ./ 1M
foo
`;

test.each(LINES.trim().split('\n'))('qemu-img %s', async (line) => {
  const { theirs, mine, theirDir, myDir } = await both(line.split(' '));
  expect(normal(mine)).toEqual(normal(theirs));
  for (const name of ['b.qcow2', 'm.qcow2', 't.qcow2', 'u.qcow2', 'x.qcow2', 'r.raw', 'x.raw']) {
    await sameImage(join(myDir, name), join(theirDir, name));
  }
});

async function sameImage(mine: string, theirs: string): Promise<void> {
  const describe = async (file: string) => {
    const { code, stdout } = await run('qemu-img', ['info', '--output=json', file]);
    return { code, text: normal({ code, stdout, stderr: '' }).stdout.replaceAll(file, 'FILE') };
  };
  const strip = (text: string) => text.replace(/"full-backing-filename": .*/, '');
  const [my, their] = [await describe(mine), await describe(theirs)];
  expect(strip(my.text)).toEqual(strip(their.text));
  if (their.code !== 0) return;
  const compared = await run('qemu-img', ['compare', mine, theirs]);
  // Images over a missing backing file can be described, not compared.
  if (compared.code !== 0 && !compared.stderr.includes('nope.qcow2')) {
    throw new Error(compared.stdout + compared.stderr);
  }
}

const poke = (dir: string, name: string, offset: number, byte: number): Promise<unknown> =>
  qemuIo(join(dir, name), [`write -P ${byte} ${offset} 1`], 'raw');

test.each<[string, string, (dir: string) => void | Promise<void>]>([
  ['a missing deeper layer', 'commit t.qcow2', (dir) => rmSync(join(dir, 'b.qcow2'))],
  ['junk as base', 'commit t.qcow2', (dir) => writeFileSync(join(dir, 'b.qcow2'), 'junk junk')],
  ['an empty base', 'commit t.qcow2', (dir) => writeFileSync(join(dir, 'm.qcow2'), '')],
  ['a header cut short', 'commit t.qcow2', (dir) => truncateSync(join(dir, 'm.qcow2'), 100)],
  ['an unknown feature in the top', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 79, 0x40)],
  ['an unknown feature in base', 'commit t.qcow2', (dir) => poke(dir, 'm.qcow2', 78, 0x40)],
  ['a top marked corrupt', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 79, 2)],
  ['version 9', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 7, 9)],
  ['a cluster size of 256', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 23, 8)],
  ['an L1 table out of place', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 47, 1)],
  ['a giant L1 table', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 36, 0x7f)],
  ['no refcount table', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 59, 0)],
  ['a bad refcount width', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 99, 9)],
  ['a giant snapshot table', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 60, 0x7f)],
  ['an unknown encryption', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 35, 7)],
  ['a version 3 header too short', 'commit t.qcow2', (dir) => poke(dir, 't.qcow2', 103, 8)],
  [
    'a directory as base',
    'commit t.qcow2',
    (dir) => {
      rmSync(join(dir, 'm.qcow2'));
      mkdirSync(join(dir, 'm.qcow2'));
    },
  ],
  [
    'an unknown protocol',
    'commit t.qcow2',
    async (dir) => {
      const top = join(dir, 't.qcow2');
      await qemuImg('rebase', '-u', '-b', 'foo:bar', '-F', 'qcow2', top);
    },
  ],
  [
    'a loop',
    'info --backing-chain t.qcow2',
    async (dir) => {
      const base = join(dir, 'b.qcow2');
      await qemuImg('rebase', '-u', '-b', 't.qcow2', '-F', 'qcow2', base);
    },
  ],
])('%s: the words of QEMU', async (_what, line, prepare) => {
  const { theirs, mine } = await both(line.split(' '), prepare);
  expect(normal(mine)).toEqual(normal(theirs));
  expect(mine.code).toBe(1);
});

/** qemu-io holds the image until it is told to stop. */
async function heldByQemu(file: string, readOnly: boolean): Promise<() => Promise<void>> {
  const args = ['-f', 'qcow2', ...(readOnly ? ['-r'] : []), file];
  const child = spawn('qemu-io', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.stdin.end('quit\n');
    await ended;
  };
}

test.each<[string, string, boolean]>([
  ['commit t.qcow2', 't.qcow2', false],
  ['commit t.qcow2', 't.qcow2', true],
  ['commit t.qcow2', 'm.qcow2', false],
  ['commit t.qcow2', 'm.qcow2', true],
  ['commit -b b.qcow2 t.qcow2', 'b.qcow2', true],
  ['commit -b b.qcow2 t.qcow2', 'm.qcow2', true],
  ['info t.qcow2', 't.qcow2', false],
  ['info -U t.qcow2', 't.qcow2', false],
  ['check t.qcow2', 't.qcow2', false],
  ['check -U t.qcow2', 't.qcow2', false],
  ['create -f qcow2 t.qcow2 1M', 't.qcow2', true],
])('%s while qemu-io holds %s (read-only: %s)', async (line, held, readOnly) => {
  const releases: (() => Promise<void>)[] = [];
  try {
    const { theirs, mine } = await both(line.split(' '), async (dir) => {
      releases.push(await heldByQemu(join(dir, held), readOnly));
    });
    expect(normal(mine)).toEqual(normal(theirs));
  } finally {
    for (const release of releases) await release();
  }
});
