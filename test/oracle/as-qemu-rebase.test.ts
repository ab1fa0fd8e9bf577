// rebase, started as qemu-img, beside the real one.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sideBySide, steady, wordsOf } from '../support/as-qemu.ts';
import { fillWithChain } from '../support/as-qemu-chain.ts';
import { run } from '../support/qemu.ts';

const { both, testLines } = sideBySide(fillWithChain);

test.each([
  ['zeros are not written as data', 'rebase -b m.qcow2 -F qcow2 u.qcow2', 'u.qcow2'],
  ['zeros are not written as data', 'rebase -b t.qcow2 -F qcow2 u.qcow2', 'u.qcow2'],
  ['what is refused in the end is not copied before', 'rebase -b b.qcow2 t.qcow2', 't.qcow2'],
])('%s, but the words are the same: %s', async (_why, line, image) => {
  const { mine, theirs, myDir, theirDir } = await both(wordsOf(line));
  expect(steady(mine)).toEqual(steady(theirs));
  const files = [join(myDir, image), join(theirDir, image)];
  expect((await run('qemu-img', ['compare', ...files])).stdout).toBe('Images are identical.\n');
  const clusters = async (file: string) => {
    const { stdout } = await run('qemu-img', ['check', '--output=json', file]);
    const found: unknown = JSON.parse(stdout);
    expect(found).not.toHaveProperty('corruptions');
    expect(found).not.toHaveProperty('leaks');
    return (found as { 'allocated-clusters': number })['allocated-clusters'] ?? 0;
  };
  expect(await clusters(files[0] ?? '')).toBeLessThan(await clusters(files[1] ?? ''));
});

testLines(`
rebase
rebase t.qcow2
rebase -b b.qcow2 -F qcow2
rebase -b b.qcow2 -F qcow2 t.qcow2 m.qcow2
rebase -b b.qcow2 -F qcow2 t.qcow2
rebase -b b.qcow2 -F qcow2 -p t.qcow2
rebase -b b.qcow2 -F qcow2 -p -q t.qcow2
rebase -b ./b.qcow2 -F qcow2 -p t.qcow2
rebase -b m.qcow2 -F qcow2 -p t.qcow2
rebase -b r.raw -F raw -p t.qcow2
rebase -b r.raw -F raw -p m.qcow2
rebase -b small.raw -F raw -p t.qcow2
rebase -b '' -p t.qcow2
rebase -b '' -p u.qcow2
rebase -b '' b.qcow2
rebase -b '' -F qcow2 t.qcow2
rebase -b '' -F nosuch t.qcow2
rebase -b r.raw -F raw -p b.qcow2
rebase -b t.qcow2 -F qcow2 b.qcow2
rebase -b b.qcow2 -F qcow2 b.qcow2
rebase -b t.qcow2 -F qcow2 m.qcow2
rebase -b nosuch t.qcow2
rebase -b nosuch -F qcow2 t.qcow2
rebase -b nosuch -F nosuch t.qcow2
rebase -b nosuch -F nosuch nope.qcow2
rebase -b r.raw -F qcow2 t.qcow2
rebase -b r.raw -F qcow2 -p r.raw
rebase -b r.raw -F qcow2 -f raw r.raw
rebase -b t.qcow2 -F qcow2 -p r.raw
rebase -b t.qcow2 -F qcow2 -f raw r.raw
rebase -b '' r.raw
rebase -u r.raw
rebase -u -b '' -f raw r.raw
rebase -u t.qcow2
rebase -u -p t.qcow2
rebase -u -b '' t.qcow2
rebase -u -b b.qcow2 -F qcow2 t.qcow2
rebase -u -b b.qcow2 t.qcow2
rebase -u -p -b b.qcow2 t.qcow2
rebase -u -b nosuch -F qcow2 t.qcow2
rebase -u -b nosuch -F vmdk t.qcow2
rebase -u -b nosuch -F nosuch t.qcow2
rebase -u -b d/nosuch -F raw g.qcow2
rebase -u -b b.qcow2 -F qcow2 g.qcow2
rebase -b b.qcow2 -F qcow2 g.qcow2
rebase -b '' g.qcow2
rebase -b g.qcow2 -F qcow2 t.qcow2
rebase -b . -F raw t.qcow2
rebase -b d -F raw t.qcow2
rebase -b foo:bar -F raw t.qcow2
rebase -b file:b.qcow2 -F qcow2 t.qcow2
rebase -b json:{} -F qcow2 t.qcow2
rebase -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"b.qcow2"}}' -F qcow2 -p t.qcow2
rebase -t none -T none -b b.qcow2 -F qcow2 t.qcow2
rebase -t unsafe -T directsync -b b.qcow2 -F qcow2 t.qcow2
rebase -t foo -T foo -b b.qcow2 -F qcow2 t.qcow2
rebase -T foo -b b.qcow2 -F qcow2 t.qcow2
rebase -t foo -b b.qcow2 -F qcow2 nope.qcow2
rebase -p -t foo -b b.qcow2 -F qcow2 nope.qcow2
rebase -p -b b.qcow2 -F qcow2 nope.qcow2
rebase -U -b b.qcow2 -F qcow2 t.qcow2
rebase --force-share -b b.qcow2 -F qcow2 t.qcow2
rebase -S 4k -b b.qcow2 -F qcow2 t.qcow2
rebase -c -b b.qcow2 -F qcow2 t.qcow2
rebase -f qcow2 -b b.qcow2 -F qcow2 t.qcow2
rebase -f raw -b b.qcow2 -F qcow2 t.qcow2
rebase -f nosuch -b b.qcow2 -F qcow2 t.qcow2
rebase t.qcow2 -b b.qcow2 -F qcow2
rebase -b
rebase -F
rebase --image-opts -b b.qcow2 -F qcow2 driver=qcow2,file.filename=t.qcow2
rebase --image-opts -f qcow2 -b b.qcow2 -F qcow2 driver=qcow2,file.filename=t.qcow2
rebase --image-opts -b b.qcow2 -F qcow2 t.qcow2
rebase --image-opts -p -b b.qcow2 -F qcow2 driver=qcow2,file.filename=t.qcow2,backing.driver=qcow2,backing.file.filename=m.qcow2
rebase -b b.qcow2 -F qcow2 'json:{"driver":"qcow2","file.filename":"t.qcow2"}'
rebase --object secret,id=s,data=abc -b b.qcow2 -F qcow2 t.qcow2
rebase --object foo -b b.qcow2 -F qcow2 t.qcow2
rebase --backing b.qcow2 t.qcow2
rebase --force -b b.qcow2 -F qcow2 t.qcow2
rebase --dry-run -b b.qcow2 -F qcow2 t.qcow2
rebase -b b.qcow2 -F qcow2 ''
rebase -b b.qcow2 -F '' t.qcow2
rebase -b b.qcow2 -F qcow2 .
rebase -b b.qcow2 -F qcow2 small.raw
`);
