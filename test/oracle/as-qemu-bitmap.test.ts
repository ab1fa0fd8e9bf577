// bitmap, started as qemu-img, beside the real one: words, exit codes, and what is dirty afterwards.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe } from 'vitest';
import { sideBySide } from '../support/as-qemu.ts';
import { changeBitmaps } from '../support/bitmaps.ts';
import { mustIn, qemuIo } from '../support/qemu.ts';

/** With a bitmap that was not stored; with a directory that is void; with a table of nonsense. */
const DOUBTFUL = ['lost', 'cut', 'nonsense'];

/** a: bitmaps of several granularities with dirty bits; s: a smaller disk; f: 512-byte clusters. */
async function fill(dir: string): Promise<void> {
  const img = (...args: readonly string[]) => mustIn(dir, 'qemu-img', ...args);
  const small = ['-o', 'cluster_size=4096'];
  const bitmap = (...args: readonly string[]) => img('bitmap', ...args);
  await img('create', '-q', '-f', 'qcow2', ...small, 'below.qcow2', '20M');
  const over = ['-b', 'below.qcow2', '-F', 'qcow2'];
  await img('create', '-q', '-f', 'qcow2', ...small, ...over, 'a.qcow2', '20M');
  await bitmap('--add', 'a.qcow2', 'b0');
  await bitmap('--add', '-g', '512', 'a.qcow2', 'fine');
  await bitmap('--add', '-g', '1M', 'a.qcow2', 'coarse');
  await qemuIo('a.qcow2', ['write 1000k 77k', 'write -z 5M 1M', 'discard 9M 64k'], 'qcow2', dir);
  await bitmap('--disable', 'a.qcow2', 'fine');
  await qemuIo('a.qcow2', ['write 12345k 3k', 'write 20479k 1k'], 'qcow2', dir);
  await img('create', '-q', '-f', 'qcow2', ...small, 's.qcow2', '10M');
  await bitmap('--add', 's.qcow2', 'b0');
  await img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', 'f.qcow2', '20M');
  await bitmap('--add', '-g', '512', 'f.qcow2', 'only');
  await qemuIo('f.qcow2', ['write 3M 5k', 'write 17M 100k'], 'qcow2', dir);
  await img('create', '-q', '-f', 'qcow2', 'plain.qcow2', '20M');
  await img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'v2.qcow2', '10M');
  await img('create', '-q', '-f', 'qcow2', 'huge.qcow2', '4T');
  await img('create', '-q', '-f', 'raw', 'r.raw', '1M');
  for (const name of DOUBTFUL) {
    await img('create', '-q', '-f', 'qcow2', ...small, `${name}.qcow2`, '20M');
    for (const each of ['b0', 'b1']) await bitmap('--add', `${name}.qcow2`, each);
    await qemuIo(`${name}.qcow2`, ['write 3M 100k'], 'qcow2', dir);
  }
  changeBitmaps(join(dir, 'lost.qcow2'), (bytes, { entry }) => bytes.writeUInt32BE(3, entry + 12));
  changeBitmaps(join(dir, 'cut.qcow2'), (bytes) => bytes.writeBigUInt64BE(0n, 88));
  changeBitmaps(join(dir, 'nonsense.qcow2'), (bytes, { entry, table }) => {
    bytes.writeUInt32BE(3, entry + 12);
    bytes.writeBigUInt64BE(2n, table);
  });
  mkdirSync(join(dir, 'd'));
  writeFileSync(join(dir, 'small.raw'), 'some text');
}

const { testLines, testDifferences } = sideBySide(fill);

testLines(`
bitmap --add a.qcow2 new
bitmap --add -g 4k a.qcow2 new
bitmap --add -g 16k huge.qcow2 new
bitmap --add plain.qcow2 first
bitmap --add -g 2G plain.qcow2 first
bitmap --add -g 5G plain.qcow2 first
bitmap --add -g 4G plain.qcow2 first
bitmap --add -g 0 plain.qcow2 first
bitmap --add -g 256 plain.qcow2 first
bitmap --add -g 768 plain.qcow2 first
bitmap --add -g -1 plain.qcow2 first
bitmap --add -g 1x plain.qcow2 first
bitmap --add -g 9999999T plain.qcow2 first
bitmap --add --disable --enable --disable plain.qcow2 first
bitmap --add --remove --add --disable plain.qcow2 first
bitmap --add f.qcow2 other
bitmap --add -g 64k f.qcow2 other
bitmap --add a.qcow2 b0
bitmap --add --merge fine a.qcow2 new
bitmap --add --merge fine --disable a.qcow2 new
bitmap --add a.qcow2 ''
bitmap --remove a.qcow2 b0
bitmap --remove a.qcow2 coarse
bitmap --remove f.qcow2 only
bitmap --remove s.qcow2 b0
bitmap --remove --add f.qcow2 only
bitmap --remove a.qcow2 nope
bitmap --remove v2.qcow2 nope
bitmap --clear a.qcow2 nope
bitmap --enable a.qcow2 nope
bitmap --disable a.qcow2 nope
bitmap --merge nope a.qcow2 b0
bitmap --merge b0 a.qcow2 nope
bitmap --merge b0 a.qcow2 b0
bitmap --clear a.qcow2 coarse
bitmap --clear a.qcow2 fine
bitmap --clear --merge fine a.qcow2 b0
bitmap --enable a.qcow2 fine
bitmap --disable a.qcow2 b0
bitmap --disable f.qcow2 only
bitmap --merge fine a.qcow2 b0
bitmap --merge fine a.qcow2 coarse
bitmap --merge coarse a.qcow2 fine
bitmap --merge coarse --merge fine a.qcow2 b0
bitmap --merge=coarse a.qcow2 b0
bitmap --merge only -b f.qcow2 a.qcow2 fine
bitmap --merge only -b f.qcow2 -F qcow2 a.qcow2 coarse
bitmap --merge fine -b a.qcow2 f.qcow2 only
bitmap --merge b0 -b s.qcow2 a.qcow2 b0
bitmap --merge b0 -b a.qcow2 a.qcow2 b0
bitmap --merge b0 -b r.raw -F raw a.qcow2 b0
bitmap --merge b0 -b nofile.qcow2 a.qcow2 b0
bitmap --merge b0 -b a.qcow2 -F raw f.qcow2 only
bitmap --disable --merge nope a.qcow2 b0
bitmap --add --add a.qcow2 new
bitmap --add --object secret,id=x,data=y a.qcow2 new
bitmap --add --object secret,id=x a.qcow2 new
bitmap --add --image-opts driver=qcow2,file.filename=a.qcow2 new
bitmap --add --image-opts -f qcow2 driver=qcow2,file.filename=a.qcow2 new
bitmap --add -f qcow2 a.qcow2 new
bitmap --add -f foo a.qcow2 new
bitmap --add nofile.qcow2 new
bitmap --add d new
bitmap --remove -f raw r.raw b1
bitmap --remove r.raw b1
bitmap --add -f qcow2 r.raw b1
bitmap a.qcow2 b0
bitmap --add a.qcow2
bitmap --add
bitmap
bitmap --add a.qcow2 b0 c
bitmap -g 64k --remove a.qcow2 b0
bitmap -g 0 --remove a.qcow2 b0
bitmap -F raw --add a.qcow2 b0
bitmap -b x --add a.qcow2 b0
bitmap --foo a.qcow2 b
bitmap -U --add a.qcow2 b
bitmap -q --add a.qcow2 b
bitmap --format qcow2 --add a.qcow2 b
bitmap --add -g
bitmap --merge
bitmap --gran 4k --add a.qcow2 new
bitmap --source-file f.qcow2 --source-format qcow2 --merge only a.qcow2 fine
bitmap --source f.qcow2 --merge only a.qcow2 fine
`);

testDifferences([
  ['bitmap --add v2.qcow2 new', 'the name of a node there is random, ours is the file'],
  ['bitmap --add -g 512 huge.qcow2 new', 'the same'],
  ['bitmap --add -f raw r.raw new', 'the same'],
  ['bitmap --add r.raw new', 'the same'],
]);

describe('bitmaps that can not be trusted', () => {
  testLines(
    DOUBTFUL.flatMap((name) =>
      [
        `info --output=json ${name}.qcow2`,
        `check ${name}.qcow2`,
        `map ${name}.qcow2`,
        `bitmap --add ${name}.qcow2 new`,
        `bitmap --clear ${name}.qcow2 b0`,
        `bitmap --merge b0 ${name}.qcow2 b1`,
        `bitmap --merge b1 ${name}.qcow2 b0`,
        `bitmap --remove ${name}.qcow2 b0`,
        `bitmap --remove --add ${name}.qcow2 b0`,
        `bitmap --merge b0 -b ${name}.qcow2 a.qcow2 b0`,
      ].join('\n'),
    ).join('\n'),
  );
});
