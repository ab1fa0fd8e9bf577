// Encrypted images, secrets and the encrypt.* options, started as qemu-img, beside the real one.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sideBySide, steady, wordsOf } from '../support/as-qemu.ts';
import { aes, encryptedFile, luks } from '../support/encrypted.ts';
import { mustIn } from '../support/qemu.ts';

const L = 'driver=qcow2,encrypt.key-secret=s,file.filename=l.qcow2';
const A = 'driver=qcow2,encrypt.key-secret=s,file.filename=a.qcow2';
const TOP = 'driver=qcow2,file.filename=t.qcow2,encrypt.key-secret=s,backing.encrypt.key-secret=s';
const S = '--object secret,id=s,data=geheim';

const { both, testLines } = sideBySide(async (dir) => {
  const file = (name: string) => join(dir, name);
  const size = 1024 * 1024;
  await encryptedFile(file('l.qcow2'), { size, encryption: luks() });
  await encryptedFile(file('a.qcow2'), { size, encryption: aes() });
  const essiv = { mode: 'cbc', ivgen: 'essiv', ivgenHash: 'sha256', cipher: 'aes-128' } as const;
  await encryptedFile(file('t.qcow2'), {
    size,
    encryption: luks('geheim', essiv),
    backingFile: 'l.qcow2',
    backingFormat: 'qcow2',
  });
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'p.qcow2', '1M');
  writeFileSync(file('r.raw'), Buffer.alloc(size, 5));
  writeFileSync(file('pw'), 'geheim');
  writeFileSync(file('pw64'), 'Z2VoZWlt\n');
  const io = (opts: string, ...commands: readonly string[]) =>
    mustIn(
      dir,
      'qemu-io',
      ...wordsOf(S),
      ...commands.flatMap((c) => ['-c', c]),
      '--image-opts',
      opts,
    );
  await io(L, 'write -P 5 0 128k');
  await io(A, 'write -P 5 0 1M');
  await io(TOP, 'write -P 6 64k 128k', 'write -z 512k 64k');
});

// Described, checked, mapped and compared, with the key and without it
testLines(`
info l.qcow2
info --output=json l.qcow2
info a.qcow2
info --output=json a.qcow2
info t.qcow2
info --backing-chain t.qcow2
info ${S} --image-opts ${L}
info ${S} --image-opts ${TOP}
info --image-opts ${L},encrypt.foo=1
info --image-opts ${A},encrypt.format=luks
info --image-opts driver=qcow2,encrypt.format=foo,file.filename=l.qcow2
info --image-opts driver=qcow2,encrypt.format=foo,file.filename=p.qcow2
info --image-opts driver=qcow2,encrypt.foo=foo,file.filename=p.qcow2
check l.qcow2
check a.qcow2
check t.qcow2
check ${S} --image-opts ${L}
check ${S} --image-opts ${A}
check ${S} --image-opts ${TOP}
check ${S} --image-opts ${L},encrypt.format=luks
check ${S} --image-opts ${L},encrypt.format=aes
check --image-opts ${L}
check --object secret,id=s,data=falsch --image-opts ${L}
check --object secret,id=s,data=falsch --image-opts ${A}
check --object secret,id=t,data=geheim --image-opts ${L}
check --object secret,id=s,data=AGFi,format=base64 --image-opts ${L}
map l.qcow2
map ${S} --image-opts ${L}
map ${S} --output=json --image-opts ${L}
map ${S} --output=json --image-opts ${A}
map ${S} --output=json --image-opts ${TOP}
map ${S} --output=json --image-opts driver=qcow2,file.filename=t.qcow2,encrypt.key-secret=s
compare l.qcow2 a.qcow2
compare a.qcow2 r.raw
compare ${S} --image-opts ${L} ${A}
compare ${S} -s --image-opts ${L} ${A}
compare ${S} --image-opts ${A} driver=raw,file.filename=r.raw
compare ${S} --image-opts ${TOP} ${L}
compare ${S} 'json:{"driver":"qcow2","encrypt":{"key-secret":"s"},"file":{"filename":"a.qcow2"}}' r.raw
commit l.qcow2
commit t.qcow2
commit ${S} --image-opts driver=qcow2,file.filename=t.qcow2,encrypt.key-secret=s
`);

// Secrets
testLines(`
check --object secret,id=s,file=pw --image-opts ${L}
check --object secret,id=s,file=pw64,format=base64 --image-opts ${L}
check --object secret,id=s,file=pw64 --image-opts ${L}
check --object secret,id=s,file=nowhere --image-opts ${L}
check --object secret,id=s,data=Z2VoZWlt,format=base64 --image-opts ${L}
check --object secret,id=s,data=Z2VoZWltZ,format=base64 --image-opts ${L}
check --object secret,id=s,data=Z2VoZ***,format=base64 --image-opts ${L}
check --object qom-type=secret,id=s,data=geheim --image-opts ${L}
check --object '{"qom-type":"secret","id":"s","data":"geheim"}' --image-opts ${L}
check --object '{"qom-type":"secret","id":"s","data":7}' --image-opts ${L}
check --object '{"qom-type":"secret","id":"s"' --image-opts ${L}
check --object secret,id=s,data=geheim,format=hex l.qcow2
check --object secret,id=s l.qcow2
check --object secret,id=s,data=x,file=y l.qcow2
check --object secret,data=x l.qcow2
check --object secret,id=1s,data=x l.qcow2
check --object secret,id=,data=x l.qcow2
check --object secret,id=s,data=x,foo=bar l.qcow2
check --object secret,id=s,data=x,loaded=on l.qcow2
check --object secret,id=s,data=x,loaded=foo l.qcow2
check --object secret,id=s,data=x,keyid=k l.qcow2
check --object secret,id=k,data=abc --object secret,id=s,data=x,keyid=k l.qcow2
check --object secret,id=s,data=x --object secret,id=s,data=y l.qcow2
check --object '' l.qcow2
check --object ,id=s l.qcow2
check --object foo,id=s l.qcow2
compare --object secret,id=s l.qcow2 a.qcow2
create --object secret,id=s -f qcow2 x.qcow2 1M
`);

// New images; those of LUKS that come to be are judged elsewhere: QEMU's are random
testLines(`
create ${S} -f qcow2 -o encrypt.format=luks x.qcow2 1M
create -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s x.qcow2 1M
create -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s x.qcow2 1M
create ${S} -f qcow2 -o encrypt.key-secret=s x.qcow2 1M
create ${S} -f qcow2 -o encrypt.cipher-alg=aes-256 x.qcow2 1M
create ${S} -f qcow2 -o encrypt.iter-time=10 x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=foo,encrypt.key-secret=s x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=foo,preallocation=foo x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=foo,compat=foo x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=luks,encrypt.cipher-alg=foo x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=luks,encrypt.cipher-mode=foo,encrypt.key-secret=s x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=luks,encrypt.ivgen-alg=foo x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=luks,encrypt.ivgen-hash-alg=foo x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=luks,encrypt.hash-alg=foo,encrypt.cipher-mode=bar x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=3des x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha1 x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,cluster_size=1000 x.qcow2 1M
create ${S} -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s,encrypt.cipher-alg=aes-128 x.qcow2 1M
create ${S} -f qcow2 -o encryption=on x.qcow2 1M
create ${S} -f qcow2 -o encryption=off,encrypt.key-secret=s x.qcow2 1M
create ${S} -f qcow2 -o encryption=on,encrypt.format=luks,encrypt.key-secret=s x.qcow2 1M
create ${S} -f qcow2 -o encryption=on,encrypt.format=luks,compat=foo x.qcow2 1M
`);

/** Where the LUKS header of l.qcow2 begins. */
const luksStart = (bytes: Buffer) => bytes.indexOf('LUKS\xba\xbe', 0, 'latin1');
const slot = (index: number, member: number) => 208 + index * 48 + member;

test.each<[string, (bytes: Buffer, luks: number) => void]>([
  ['no LUKS', (b, luks) => b.write('L', luks + 1)],
  ['version 2', (b, luks) => b.writeUInt16BE(2, luks + 6)],
  ['an endless cipher name', (b, luks) => b.fill('x', luks + 8, luks + 40)],
  ['an endless mode', (b, luks) => b.fill('x', luks + 40, luks + 72)],
  ['an endless hash', (b, luks) => b.fill('x', luks + 72, luks + 104)],
  ['an unknown cipher', (b, luks) => b.write('foo\0', luks + 8)],
  ['a mode of one word', (b, luks) => b.write('xts\0', luks + 40)],
  ['an unknown mode', (b, luks) => b.write('foo-plain\0', luks + 40)],
  ['an unknown generator', (b, luks) => b.write('xts-foo\0', luks + 40)],
  ['an unknown hash of it', (b, luks) => b.write('xts-plain64:foo\0', luks + 40)],
  ['ESSIV without a hash', (b, luks) => b.write('xts-essiv\0', luks + 40)],
  ['ESSIV with SHA-1', (b, luks) => b.write('xts-essiv:sha1\0', luks + 40)],
  ['an unknown hash', (b, luks) => b.write('foo\0', luks + 72)],
  ['a payload in the header', (b, luks) => b.writeUInt32BE(7, luks + 104)],
  ['a key of no bytes', (b, luks) => b.writeUInt32BE(0, luks + 108)],
  ['a key of 20 bytes', (b, luks) => b.writeUInt32BE(20, luks + 108)],
  ['no iterations', (b, luks) => b.writeUInt32BE(0, luks + 164)],
  ['a slot of no state', (b, luks) => b.writeUInt32BE(5, luks + slot(3, 0))],
  ['a slot without iterations', (b, luks) => b.writeUInt32BE(0, luks + slot(0, 4))],
  ['a slot in the header', (b, luks) => b.writeUInt32BE(1, luks + slot(2, 40))],
  ['a slot far away', (b, luks) => b.writeUInt32BE(0x7fffffff, luks + slot(2, 40))],
  ['two slots in one place', (b, luks) => b.writeUInt32BE(8, luks + slot(2, 40))],
  ['too many stripes', (b, luks) => b.writeUInt32BE(0x7fffffff, luks + slot(0, 44))],
  ['no stripes', (b, luks) => b.writeUInt32BE(0, luks + slot(7, 44))],
  ['no encryption, but a header for it', (b) => b.writeUInt32BE(0, 32)],
  ['the old encryption, but a header for LUKS', (b) => b.writeUInt32BE(1, 32)],
  ['a header between clusters', (b) => b.writeUInt32BE(512, pointerIn(b) + 4)],
  ['a header of 100 bytes', (b) => b.writeUInt32BE(100, pointerIn(b) + 12)],
])('%s: the words of QEMU', async (_what, damage) => {
  const prepare = (dir: string) => {
    const bytes = readFileSync(join(dir, 'l.qcow2'));
    damage(bytes, luksStart(bytes));
    writeFileSync(join(dir, 'l.qcow2'), bytes);
  };
  const { theirs, mine } = await both(['info', 'l.qcow2'], prepare);
  expect(theirs.code).toBe(1);
  expect(steady(mine)).toEqual(steady(theirs));
});

function pointerIn(bytes: Buffer): number {
  return bytes.indexOf(Buffer.from('0537be7700000010', 'hex')) + 8;
}
