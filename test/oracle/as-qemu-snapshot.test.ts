// snapshot, started as qemu-img, beside the real one.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sideBySide } from '../support/as-qemu.ts';
import { mustIn, qemuIo, run } from '../support/qemu.ts';

/** The last byte of the incompatible features; bit 1 is "corrupt". */
const FEATURES = 79;
const SNAPSHOTS_OFFSET = 64;

async function fill(dir: string): Promise<void> {
  const img = (...args: readonly string[]) => mustIn(dir, 'qemu-img', ...args);
  const create = (name: string, size: string, ...options: readonly string[]) =>
    img('create', '-q', '-f', 'qcow2', ...options, name, size);
  const write = (name: string, ...commands: readonly string[]) =>
    qemuIo(name, commands, 'qcow2', dir);
  const changed = (from: string, to: string, change: (bytes: Buffer) => void): void => {
    const bytes = readFileSync(join(dir, from));
    change(bytes);
    writeFileSync(join(dir, to), bytes);
  };
  await create('s.qcow2', '3M');
  await write('s.qcow2', 'write -P 1 0 1M', 'write -z 2M 64k', 'write -c -P 2 1M 64k');
  await img('snapshot', '-c', 'one', 's.qcow2');
  await write('s.qcow2', 'write -P 3 512k 1M');
  await img('snapshot', '-c', 'two', 's.qcow2');
  await img('snapshot', '-c', '1', 's.qcow2');
  await write('s.qcow2', 'write -P 4 0 64k', 'discard 256k 256k');
  await create('over.qcow2', '4M', '-b', 's.qcow2', '-F', 'qcow2');
  await write('over.qcow2', 'write -P 5 0 2M');
  await img('snapshot', '-c', 'kept', 'over.qcow2');
  await create('grown.qcow2', '1M');
  await write('grown.qcow2', 'write -P 1 0 64k');
  await img('snapshot', '-c', 'small', 'grown.qcow2');
  await img('resize', '-q', 'grown.qcow2', '2M');
  await write('grown.qcow2', 'write -P 2 1M 64k');
  await img('snapshot', '-c', 'large', 'grown.qcow2');
  await create('old.qcow2', '1M', '-o', 'compat=0.10,cluster_size=512');
  await write('old.qcow2', 'write -P 1 0 300k');
  await img('snapshot', '-c', 'a', 'old.qcow2');
  await write('old.qcow2', 'write -P 2 100k 300k');
  changed('old.qcow2', 'oldgrown.qcow2', (bytes) => bytes.writeUInt32BE(2 << 19, 28));
  await create('bit.qcow2', '1M', '-o', 'refcount_bits=1');
  await create('new.qcow2', '1M');
  await create('bitmap.qcow2', '1M');
  await img('bitmap', '--add', 'bitmap.qcow2', 'b');
  await img('snapshot', '-c', 'x', 'bitmap.qcow2');
  await create('names.qcow2', '1M');
  for (const name of ['ümläut', '日本語日本語', '', 'y'.repeat(40), 'z'.repeat(300)]) {
    await img('snapshot', '-c', name, 'names.qcow2');
  }
  await create('gone.qcow2', '1M', '-u', '-b', 'nothere.qcow2', '-F', 'qcow2');
  await img('create', '-q', 'r.raw', '1M');
  changed('s.qcow2', 'corrupt.qcow2', (bytes) => bytes.writeUInt8(2, FEATURES));
  changed('s.qcow2', 'place.qcow2', (bytes) =>
    bytes.writeBigUInt64BE(12_345n, Number(bytes.readBigUInt64BE(SNAPSHOTS_OFFSET))),
  );
  changed('s.qcow2', 'large.qcow2', (bytes) =>
    bytes.writeUInt32BE(0x7fff_ffff, Number(bytes.readBigUInt64BE(SNAPSHOTS_OFFSET)) + 8),
  );
  await create('dirty.qcow2', '1M', '-o', 'lazy_refcounts=on');
  const killed = ['-c', 'write -P 1 0 64k', '-c', 'flush', '-c', 'abort', 'dirty.qcow2'];
  await run('qemu-io', killed, { cwd: dir }).catch(() => undefined);
}

const { testLines, testDifferences } = sideBySide(fill);

testLines(`
snapshot -l s.qcow2
snapshot -l names.qcow2
info names.qcow2
info --output=json names.qcow2
snapshot s.qcow2
snapshot r.raw
snapshot -ql s.qcow2
snapshot -lU s.qcow2
snapshot -l --force-share s.qcow2
snapshot -l over.qcow2
snapshot -l gone.qcow2
snapshot -l dirty.qcow2
snapshot -l r.raw
snapshot -l nope
snapshot --image-opts -l driver=qcow2,file.filename=s.qcow2
snapshot --image-opts -l -U driver=qcow2,file.filename=s.qcow2,force-share=off
snapshot --image-opts -c x driver=qcow2,file.filename=s.qcow2,read-only=on
snapshot --image-opts -c x driver=qcow2,file.filename=s.qcow2,force-share=on
snapshot --image-opts -c x driver=raw,file.filename=s.qcow2
snapshot --object secret,id=x,data=a -l s.qcow2
snapshot --object foo -l s.qcow2
snapshot -c three s.qcow2
snapshot -c one s.qcow2
snapshot -c '' s.qcow2
snapshot s.qcow2 -c three
snapshot -c x -U s.qcow2
snapshot -c x gone.qcow2
snapshot -c x grown.qcow2
snapshot -c x old.qcow2
snapshot -c x new.qcow2
snapshot -c x bit.qcow2
snapshot -c x corrupt.qcow2
snapshot -c x r.raw
snapshot -a one s.qcow2
snapshot -a 1 s.qcow2
snapshot -a 2 s.qcow2
snapshot -a no s.qcow2
snapshot -a 4 s.qcow2
snapshot -a kept over.qcow2
snapshot -a small grown.qcow2
snapshot -a a old.qcow2
snapshot -a a oldgrown.qcow2
snapshot -a x bitmap.qcow2
snapshot -a no bitmap.qcow2
snapshot -a one place.qcow2
snapshot -a one large.qcow2
snapshot -a x r.raw
snapshot -d one s.qcow2
snapshot -d two s.qcow2
snapshot -d 1 s.qcow2
snapshot -d no s.qcow2
snapshot -d '' names.qcow2
snapshot -d a old.qcow2
snapshot -d x bitmap.qcow2
snapshot -d one place.qcow2
snapshot -d one large.qcow2
snapshot -d x r.raw
snapshot -d ümläut names.qcow2
snapshot
snapshot -l
snapshot -l s.qcow2 new.qcow2
snapshot -c
snapshot -l -c x s.qcow2
snapshot -c x -l s.qcow2
snapshot -l -l s.qcow2
snapshot -c x -c y s.qcow2
snapshot -a x -d y s.qcow2
snapshot -f qcow2 -l s.qcow2
snapshot --list s.qcow2
snapshot --quiet -l s.qcow2
snapshot -Z s.qcow2
`);

testDifferences([
  ['snapshot -c x dirty.qcow2', 'the refcounts are rebuilt in place, and nothing is said about it'],
  ['snapshot -a two place.qcow2', 'an image is not written to while a snapshot of it is broken'],
]);
