// Images that stand on images: raw over qcow2, blkdebug over qcow2, qcow2 inside of qcow2, started as
// qemu-img beside the real one.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sideBySide, steady, wordsOf } from '../support/as-qemu.ts';
import { fillWithChain } from '../support/as-qemu-chain.ts';
import { mustIn, qemuImg, qemuIo } from '../support/qemu.ts';

const INNER = (name: string, driver: string) =>
  `json:${JSON.stringify({ driver, file: { driver: 'qcow2', file: { driver: 'file', filename: name } } })}`;

const { both, testLines, testDifferences } = sideBySide(async (dir) => {
  await fillWithChain(dir);
  const create = (...args: readonly string[]) =>
    mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...args);
  const write = (name: string, ...commands: readonly string[]) =>
    qemuIo(name, commands, 'qcow2', dir);
  await create('alone.qcow2', '3M');
  await write('alone.qcow2', 'write -P 1 0 128k', 'write -c -P 3 1M 64k', 'write -z 2M 64k');
  await create('-b', 'alone.qcow2', '-F', 'qcow2', 'ov.qcow2');
  await write('ov.qcow2', 'write -P 7 512k 128k');
  await create('outer.qcow2', '16M');
  await mustIn(
    dir,
    'qemu-img',
    'convert',
    '-n',
    '-f',
    'raw',
    '-O',
    'qcow2',
    'ov.qcow2',
    'outer.qcow2',
  );
  await qemuIo('r.raw', ['write -P 1 0 128k', 'write -P 3 512k 64k'], 'raw', dir);
  for (const [name, size] of [
    ['onraw.qcow2', '3M'],
    ['onraw5.qcow2', '5M'],
  ] as const) {
    await create('-u', '-b', INNER('alone.qcow2', 'raw'), '-F', 'raw', name, size);
    await write(name, 'write -P 7 512k 128k', `write -P 8 ${Number.parseInt(size, 10) - 1}M 64k`);
  }
  await create('-u', '-b', INNER('outer.qcow2', 'qcow2'), '-F', 'qcow2', 'onouter.qcow2', '3M');
  await write('onouter.qcow2', 'write -P 7 512k 64k');
});

// Sound ones
testLines(`
info --output=json --image-opts driver=raw,file.driver=qcow2,file.file.filename=alone.qcow2
map --image-opts driver=raw,file.driver=qcow2,file.file.filename=alone.qcow2
map --output=json --image-opts driver=raw,file.driver=qcow2,file.file.filename=alone.qcow2
compare -s --image-opts driver=raw,file.driver=qcow2,file.file.filename=alone.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=raw,file.driver=raw,file.file.filename=r.raw
map --image-opts driver=raw,file.driver=raw,file.file.filename=r.raw
map --output=json --image-opts driver=raw,file.driver=raw,file.file.filename=r.raw
compare -s --image-opts driver=raw,file.driver=raw,file.file.filename=r.raw driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=raw,file.driver=raw,file.file.driver=raw,file.file.file.filename=r.raw
map --image-opts driver=raw,file.driver=raw,file.file.driver=raw,file.file.file.filename=r.raw
map --output=json --image-opts driver=raw,file.driver=raw,file.file.driver=raw,file.file.file.filename=r.raw
compare -s --image-opts driver=raw,file.driver=raw,file.file.driver=raw,file.file.file.filename=r.raw driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=blkdebug,image.driver=qcow2,image.file.filename=alone.qcow2
map --image-opts driver=blkdebug,image.driver=qcow2,image.file.filename=alone.qcow2
map --output=json --image-opts driver=blkdebug,image.driver=qcow2,image.file.filename=alone.qcow2
compare -s --image-opts driver=blkdebug,image.driver=qcow2,image.file.filename=alone.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=raw,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=alone.qcow2
map --image-opts driver=raw,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=alone.qcow2
map --output=json --image-opts driver=raw,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=alone.qcow2
compare -s --image-opts driver=raw,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=alone.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=blkdebug,image.driver=raw,image.file.driver=qcow2,image.file.file.filename=alone.qcow2
map --image-opts driver=blkdebug,image.driver=raw,image.file.driver=qcow2,image.file.file.filename=alone.qcow2
map --output=json --image-opts driver=blkdebug,image.driver=raw,image.file.driver=qcow2,image.file.file.filename=alone.qcow2
compare -s --image-opts driver=blkdebug,image.driver=raw,image.file.driver=qcow2,image.file.file.filename=alone.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=blkdebug,image.driver=raw,image.file.filename=r.raw
map --image-opts driver=blkdebug,image.driver=raw,image.file.filename=r.raw
map --output=json --image-opts driver=blkdebug,image.driver=raw,image.file.filename=r.raw
compare -s --image-opts driver=blkdebug,image.driver=raw,image.file.filename=r.raw driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=qcow2,file.driver=qcow2,file.file.filename=outer.qcow2
map --image-opts driver=qcow2,file.driver=qcow2,file.file.filename=outer.qcow2
map --output=json --image-opts driver=qcow2,file.driver=qcow2,file.file.filename=outer.qcow2
compare -s --image-opts driver=qcow2,file.driver=qcow2,file.file.filename=outer.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts file.driver=qcow2,file.file.filename=outer.qcow2
map --image-opts file.driver=qcow2,file.file.filename=outer.qcow2
map --output=json --image-opts file.driver=qcow2,file.file.filename=outer.qcow2
compare -s --image-opts file.driver=qcow2,file.file.filename=outer.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts file.driver=qcow2,file.file.filename=alone.qcow2
map --image-opts file.driver=qcow2,file.file.filename=alone.qcow2
map --output=json --image-opts file.driver=qcow2,file.file.filename=alone.qcow2
compare -s --image-opts file.driver=qcow2,file.file.filename=alone.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts file.driver=raw,file.file.filename=alone.qcow2
map --image-opts file.driver=raw,file.file.filename=alone.qcow2
map --output=json --image-opts file.driver=raw,file.file.filename=alone.qcow2
compare -s --image-opts file.driver=raw,file.file.filename=alone.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=qcow2,file.driver=raw,file.file.filename=t.qcow2
map --image-opts driver=qcow2,file.driver=raw,file.file.filename=t.qcow2
map --output=json --image-opts driver=qcow2,file.driver=raw,file.file.filename=t.qcow2
compare -s --image-opts driver=qcow2,file.driver=raw,file.file.filename=t.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=raw,offset=65536,file.driver=qcow2,file.file.filename=alone.qcow2
map --image-opts driver=raw,offset=65536,file.driver=qcow2,file.file.filename=alone.qcow2
map --output=json --image-opts driver=raw,offset=65536,file.driver=qcow2,file.file.filename=alone.qcow2
compare -s --image-opts driver=raw,offset=65536,file.driver=qcow2,file.file.filename=alone.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=raw,offset=65536,size=131072,file.driver=qcow2,file.file.filename=alone.qcow2
map --image-opts driver=raw,offset=65536,size=131072,file.driver=qcow2,file.file.filename=alone.qcow2
map --output=json --image-opts driver=raw,offset=65536,size=131072,file.driver=qcow2,file.file.filename=alone.qcow2
compare -s --image-opts driver=raw,offset=65536,size=131072,file.driver=qcow2,file.file.filename=alone.qcow2 driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=raw,offset=65536,file.filename=r.raw
map --image-opts driver=raw,offset=65536,file.filename=r.raw
map --output=json --image-opts driver=raw,offset=65536,file.filename=r.raw
compare -s --image-opts driver=raw,offset=65536,file.filename=r.raw driver=qcow2,file.filename=alone.qcow2
info --output=json --image-opts driver=raw,size=65536,file.driver=raw,file.offset=65536,file.file.filename=r.raw
map --image-opts driver=raw,size=65536,file.driver=raw,file.offset=65536,file.file.filename=r.raw
map --output=json --image-opts driver=raw,size=65536,file.driver=raw,file.offset=65536,file.file.filename=r.raw
compare -s --image-opts driver=raw,size=65536,file.driver=raw,file.offset=65536,file.file.filename=r.raw driver=qcow2,file.filename=alone.qcow2
commit --image-opts driver=raw,file.driver=qcow2,file.file.filename=alone.qcow2
commit --image-opts driver=raw,file.driver=raw,file.file.filename=r.raw
commit --image-opts driver=raw,file.driver=raw,file.file.driver=raw,file.file.file.filename=r.raw
commit --image-opts driver=blkdebug,image.driver=qcow2,image.file.filename=alone.qcow2
commit --image-opts driver=raw,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=alone.qcow2
commit --image-opts driver=blkdebug,image.driver=raw,image.file.driver=qcow2,image.file.file.filename=alone.qcow2
commit --image-opts driver=blkdebug,image.driver=raw,image.file.filename=r.raw
commit --image-opts file.driver=qcow2,file.file.filename=alone.qcow2
commit --image-opts file.driver=raw,file.file.filename=alone.qcow2
commit --image-opts driver=qcow2,file.driver=raw,file.file.filename=t.qcow2
commit --image-opts driver=raw,offset=65536,file.driver=qcow2,file.file.filename=alone.qcow2
commit --image-opts driver=raw,offset=65536,size=131072,file.driver=qcow2,file.file.filename=alone.qcow2
commit --image-opts driver=raw,offset=65536,file.filename=r.raw
commit --image-opts driver=raw,size=65536,file.driver=raw,file.offset=65536,file.file.filename=r.raw
`);

// What can not be opened
testLines(`
info --image-opts driver=raw,file.driver=qcow2,file.file.filename=g.qcow2
map --image-opts driver=raw,file.driver=qcow2,file.file.filename=g.qcow2
info --image-opts driver=raw,file.driver=qcow2,file.file.filename=nope
map --image-opts driver=raw,file.driver=qcow2,file.file.filename=nope
info --image-opts driver=raw,file.driver=qcow2,file.file.filename=r.raw
map --image-opts driver=raw,file.driver=qcow2,file.file.filename=r.raw
info --image-opts driver=raw,file.driver=qcow2,file.foo=1,file.file.filename=alone.qcow2
map --image-opts driver=raw,file.driver=qcow2,file.foo=1,file.file.filename=alone.qcow2
info --image-opts driver=raw,file.driver=qcow2,file.file.foo=1,file.file.filename=alone.qcow2
map --image-opts driver=raw,file.driver=qcow2,file.file.foo=1,file.file.filename=alone.qcow2
info --image-opts driver=raw,file.driver=qcow2,foo=1,file.file.filename=alone.qcow2
map --image-opts driver=raw,file.driver=qcow2,foo=1,file.file.filename=alone.qcow2
info --image-opts driver=raw,file.driver=qcow2,file.backing=foo,file.file.filename=alone.qcow2
map --image-opts driver=raw,file.driver=qcow2,file.backing=foo,file.file.filename=alone.qcow2
info --image-opts driver=raw,file.driver=qcow2,file.backing.file.filename=nope,file.file.filename=t.qcow2
map --image-opts driver=raw,file.driver=qcow2,file.backing.file.filename=nope,file.file.filename=t.qcow2
info --image-opts driver=raw,file.driver=qcow2
map --image-opts driver=raw,file.driver=qcow2
info --image-opts driver=raw,file.driver=raw
map --image-opts driver=raw,file.driver=raw
info --image-opts driver=raw,file.driver=qcow2,file.file.driver=raw
map --image-opts driver=raw,file.driver=qcow2,file.file.driver=raw
info --image-opts driver=raw,file.driver=qcow2,file.file=foo
map --image-opts driver=raw,file.driver=qcow2,file.file=foo
info --image-opts driver=raw,file.driver=qcow2,file.filename=alone.qcow2
map --image-opts driver=raw,file.driver=qcow2,file.filename=alone.qcow2
`);

// Read-only ones, shared ones, with filters in between
testLines(`
map --output=json --image-opts driver=raw,file.driver=qcow2,file.read-only=on,file.file.filename=alone.qcow2
map --output=json --image-opts driver=qcow2,file.driver=qcow2,file.read-only=on,file.file.filename=outer.qcow2
map --output=json --image-opts driver=qcow2,file.driver=qcow2,file.force-share=on,file.file.filename=outer.qcow2
map --output=json --image-opts driver=qcow2,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=outer.qcow2
map --output=json --image-opts driver=qcow2,file.driver=raw,file.offset=0,file.file.driver=qcow2,file.file.file.filename=outer.qcow2
check --image-opts driver=raw,file.driver=qcow2,file.read-only=on,file.file.filename=alone.qcow2
check --image-opts driver=qcow2,file.driver=qcow2,file.read-only=on,file.file.filename=outer.qcow2
check --image-opts driver=qcow2,file.driver=qcow2,file.force-share=on,file.file.filename=outer.qcow2
check --image-opts driver=qcow2,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=outer.qcow2
commit --image-opts driver=raw,file.driver=qcow2,file.read-only=on,file.file.filename=alone.qcow2
commit --image-opts driver=qcow2,file.driver=qcow2,file.read-only=on,file.file.filename=outer.qcow2
commit --image-opts driver=qcow2,file.driver=qcow2,file.force-share=on,file.file.filename=outer.qcow2
`);

// As backing files
testLines(`
info --backing-chain onraw.qcow2
map --output=json onraw.qcow2
compare -s onraw.qcow2 ov.qcow2
commit onraw.qcow2
commit -d onraw.qcow2
info --backing-chain onraw5.qcow2
map --output=json onraw5.qcow2
compare -s onraw5.qcow2 ov.qcow2
commit onraw5.qcow2
commit -d onraw5.qcow2
info --backing-chain onouter.qcow2
map --output=json onouter.qcow2
compare -s onouter.qcow2 ov.qcow2
commit onouter.qcow2
commit -d onouter.qcow2
`);

test.each([
  'driver=qcow2,file.driver=qcow2,file.file.filename=outer.qcow2',
  'file.driver=qcow2,file.file.filename=outer.qcow2',
  'driver=qcow2,file.driver=blkdebug,file.image.driver=qcow2,file.image.file.filename=outer.qcow2',
])('commit %s: the same but for the size of the outer disk, which stays', async (image) => {
  const { theirs, mine, theirDir, myDir } = await both(wordsOf(`commit --image-opts ${image}`));
  expect(steady(mine)).toEqual(steady(theirs));
  for (const name of ['alone.qcow2', 'outer.qcow2']) await qemuImg('check', join(myDir, name));
  await qemuImg('compare', join(theirDir, 'alone.qcow2'), join(myDir, 'alone.qcow2'));
  const inner = (dir: string) =>
    `driver=qcow2,file.driver=qcow2,file.file.filename=${join(dir, 'outer.qcow2')}`;
  await mustIn(myDir, 'qemu-img', 'check', '--image-opts', inner(myDir));
});

testDifferences([
  [
    'compare --image-opts driver=raw,file.driver=qcow2,file.file.filename=t.qcow2 driver=qcow2,file.filename=t.qcow2',
    'QEMU takes what an image below leaves to its own backing file for zeros; they are identical',
  ],
  [
    'map --output=json --image-opts driver=raw,file.driver=qcow2,file.file.filename=t.qcow2',
    'what an image below gets from its own backing file is data',
  ],
  [
    'map --output=json --image-opts driver=blkdebug,image.driver=qcow2,image.file.filename=t.qcow2',
    'a filter and the chain below it are one layer',
  ],
  [
    'commit --image-opts driver=blkdebug,image.driver=qcow2,image.file.filename=t.qcow2',
    'a filter is not seen through: it has no backing file',
  ],
]);
